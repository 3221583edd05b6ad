"""A tenant's key, freshly made, and how a policy writes it."""

from __future__ import annotations

import hashlib
import re
import secrets

PREFIX = "sk-spw-"
"""Tells people, and scanners for leaked secrets, whose key it is."""
KEY_BYTES = 32


_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9._/-]*")
_READ_OTHERWISE = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def new_key() -> str:
    """A key that nobody can guess: 256 random bits in the alphabet of URLs."""
    return PREFIX + secrets.token_urlsafe(KEY_BYTES)


def digest_of(secret: str) -> str:
    """What a policy holds of a key: its SHA-256, 64 hex digits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def quoted(word: str) -> str:
    """A name as YAML: quoted where some reader would take the bare word for something else than text."""
    bare = _PLAIN.fullmatch(word) is not None and word.lower() not in _READ_OTHERWISE
    return word if bare else f'"{word}"'


def item_of(digest: str, name: str, tags: tuple[str, ...], limits: dict[str, str]) -> str:
    """A key as YAML on one line: its digest alone where there is nothing more to say."""
    if not (name or tags or limits):
        return f"sha256:{digest}"
    parts = [f"name: {quoted(name)}"] if name else []
    parts += [f"digest: sha256:{digest}"]
    parts += [f"tags: [{', '.join(map(quoted, tags))}]"] if tags else []
    return f"{{{', '.join([*parts, *(f'{limit}: {value}' for limit, value in limits.items())])}}}"
