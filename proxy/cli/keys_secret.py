"""A Kubernetes Secret that holds one key of a tenant as a piece of policy, to be mounted in the policy's folder."""

from __future__ import annotations

import re

from proxy.cli.keys_item import quoted
from proxy.policy.source import TEST_SUFFIXES

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def is_secret_name(word: str) -> bool:
    """Whether Kubernetes takes it as the name of a Secret (a DNS subdomain, RFC 1123), and a policy as a file's."""
    return _NAME.fullmatch(word) is not None and ".." not in word and not f"{word}.yaml".endswith(TEST_SUFFIXES)


def is_namespace(word: str) -> bool:
    """Whether Kubernetes takes it as a namespace (a DNS label, RFC 1123)."""
    return _NAMESPACE.fullmatch(word) is not None


def manifest(name: str, namespace: str, tenant: str, item: str) -> str:
    """The Secret, as `kubectl apply -f -` takes it. `item` is the key's YAML on one line.

    A projected volume puts it beside the policy; each Secret brings a file of its own name, so that many fit in.
    """
    where = f"  namespace: {namespace}\n" if namespace else ""
    return f"""\
# Mount it beside the policy, whose folder `spillway serve --policy` names:
#   volumes:
#     - name: policy
#       projected:
#         sources:
#           - configMap: {{name: spillway-policy}}
#           - secret: {{name: {name}}}
apiVersion: v1
kind: Secret
metadata:
  name: {name}
{where}type: Opaque
stringData:
  {name}.yaml: |
    tenants:
      {quoted(tenant)}:
        keys:
          - {item}
"""
