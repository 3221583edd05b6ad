"""Keys in a policy: the providers' keys, which it only names, and the tenants' keys, of which it holds digests."""

from __future__ import annotations

import hashlib
import re

from proxy.policy.checks import Check
from proxy.policy.model import Secret
from proxy.policy.problem import Mistake
from proxy.policy.variables import VARIABLE, Interpolated

_KEY_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")
_WELL_KNOWN = ("", "changeme", "change-me", "password", "secret", "secret-api-key", "sk-1234", "sk-test", "test", "xxx")
_WELL_KNOWN_DIGESTS = frozenset(hashlib.sha256(key.encode()).hexdigest() for key in _WELL_KNOWN)


def api_key(value: object) -> Secret:
    """A provider's key: one `${NAME}`, nothing else. What the variable held goes into no message."""
    if not isinstance(value, Interpolated):
        hint = "write `api_key: ${NAME}`, set NAME there, and revoke this key"
        raise Mistake("`api_key` is written in clear", hint, Check.SECRET_IN_CLEAR)
    if not VARIABLE.fullmatch(value.shown):
        raise Mistake("`api_key` is more than one environment variable", "write `api_key: ${NAME}`")
    key = value.value
    if key != key.strip() or not key.isascii() or not key.isprintable():
        hint = "it becomes a header; does the variable end in a line break?"
        raise Mistake(f"the key in `{value.shown}` has blanks, control or non-ascii characters", hint)
    return Secret(key)


def key_digest(value: object) -> str:
    """A tenant's key as `sha256:` and 64 hex digits -> the digits, lower-case. A key in clear goes into no message."""
    word = value.value if isinstance(value, Interpolated) else value
    match = _KEY_DIGEST.fullmatch(word) if isinstance(word, str) else None
    if match is None:
        hint = 'never the key itself; write `sha256:` and what `printf %s "$KEY" | sha256sum` prints'
        raise Mistake("not the digest of a key", hint, Check.SECRET_IN_CLEAR)
    digest = match[1].lower()
    if digest in _WELL_KNOWN_DIGESTS or len(set(digest)) == 1:
        raise Mistake("the digest of a well-known key", "make a key of your own: openssl rand -hex 24")
    return digest
