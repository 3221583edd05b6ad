"""`helm/files/providers.yaml`: the addresses of the providers, for network policies that follow the policy."""

from __future__ import annotations

from proxy.policy.providers import NATIVE
from tests.helm.chart import CHART

FILE = CHART / "files" / "providers.yaml"
_HEAD = """\
# Where the providers of shared targets are, for the network policies. Written from proxy/policy/providers.py, and held
# to it by tests/helm/test_policy_reach.py; renew it with: python -m tests.helm.renew
"""


def text() -> str:
    """The file as it should be."""
    known = {name: provider.url for name, provider in sorted(NATIVE.items()) if provider.url is not None}
    return _HEAD + "".join(f"{name}: {url}\n" for name, url in known.items())
