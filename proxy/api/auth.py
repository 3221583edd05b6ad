"""Whose request it is: the bearer key (or Anthropic's `x-api-key`) against the policy's digests.

Theory of operation
-------------------
The key is hashed and the digest looked up in memory; nothing else is ever done with it. Every failure gets the same
answer, so that it teaches nothing about which keys exist.
"""

from __future__ import annotations

from proxy.policy.model import Snapshot, Tenant
from proxy.routing.plan import Refusal

INVALID_KEY = Refusal(
    status=401,
    type="invalid_request_error",
    code="invalid_api_key",
    message="incorrect API key provided",
    rule="auth",
    retryable=False,
)


def authenticate(snapshot: Snapshot, fields: dict[bytes, bytes]) -> Tenant | Refusal:
    """The tenant that the request's key belongs to."""
    tenant = snapshot.tenant_of(_key(fields))
    return INVALID_KEY if tenant is None else tenant


def _key(fields: dict[bytes, bytes]) -> bytes | None:
    scheme, _, key = fields.get(b"authorization", b"").partition(b" ")
    if key and scheme.lower() == b"bearer":
        return key.strip()
    return fields.get(b"x-api-key") or None
