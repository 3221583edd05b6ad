"""Whose request it is: the bearer key (or Anthropic's `x-api-key`) against the policy's digests.

Theory of operation
-------------------
The key is hashed and the digest looked up in memory; nothing else is ever done with it. Every failure gets the same
answer, so that it teaches nothing about which keys exist.
"""

from __future__ import annotations

from proxy.policy.model import Key, Snapshot
from proxy.routing.plan import Refusal

INVALID_KEY = Refusal(
    status=401,
    type="invalid_request_error",
    code="invalid_api_key",
    message="incorrect API key provided",
    rule="auth",
    retryable=False,
)


def authenticate(snapshot: Snapshot, fields: dict[bytes, bytes]) -> Key | Refusal:
    """What the key that the request carries opens: its tenant, tags and limits."""
    key = snapshot.key_of(_key(fields))
    return INVALID_KEY if key is None else key


def _key(fields: dict[bytes, bytes]) -> bytes | None:
    scheme, _, key = fields.get(b"authorization", b"").partition(b" ")
    if key and scheme.lower() == b"bearer":
        return key.strip()
    return fields.get(b"x-api-key") or None
