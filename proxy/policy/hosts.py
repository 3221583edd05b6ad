"""Names of hosts and of things in a cluster, as a policy writes them.

Like `units`: each function takes a YAML value and returns the canonical one or raises `Mistake`. Both end up in names
that are looked up, and one in a path, so their alphabet is that of the DNS.
"""

from __future__ import annotations

import re

from proxy.policy.problem import Mistake
from proxy.policy.variables import shown
from proxy.policy.words import text

LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
NAME = rf"{LABEL}(\.{LABEL}){{0,31}}\.?"
HOST = rf"{NAME}(:[0-9]{{1,5}})?"
_LABEL = re.compile(LABEL)
_HOST = re.compile(HOST)


def dns_name(value: object) -> str:
    """`vllm.inference.svc` or `vllm.inference.svc:8000` -> the name; addresses are counted, so no port is needed."""
    name = text(value)
    if not _HOST.fullmatch(name):
        raise Mistake(f"not a name in the DNS: {shown(value)}", "write the headless Service's: `vllm.inference.svc`")
    return name.partition(":")[0]


def kubernetes_name(value: object) -> str:
    """The name of a Service or a namespace."""
    name = text(value)
    if not _LABEL.fullmatch(name):
        raise Mistake(f"not a name in Kubernetes: {shown(value)}", "lower-case letters, digits and `-`, at most 63")
    return name
