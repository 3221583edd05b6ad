"""The tenants' keys that a policy has: whose they are, what they may, and where each stands in which file.

What is written goes to the disk in one step, after the policy has been compiled with it, so that a proxy which follows
the file sees the old text or the new one, and never one that it must refuse.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from proxy.cli.policy_assumed import checked, listing
from proxy.meters.prices import PriceListUnreadable
from proxy.policy.compile import Compiled
from proxy.policy.credentials import key_digest
from proxy.policy.document import Place
from proxy.policy.model import Key, Tenant
from proxy.policy.problem import PolicyError
from proxy.policy.source import Source, SourceFile, read_source
from proxy.policy.variables import Interpolated
from proxy.policy.words import did_you_mean

DIGEST_DIGITS = 12
"""So many digits of a digest are shown: they tell a policy's keys apart."""
_MIN_PREFIX = 6
_PREFIX = re.compile(r"sha256:([0-9a-fA-F]{1,64})")


class KeysRefused(Exception):
    """What was asked cannot be done; the text says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One key of a policy. `index` is its place among the tenant's keys of its file; `digest` is 64 hex digits.

    `variable` is how the policy writes a digest that it takes from the environment, empty for others.
    """

    key: Key
    digest: str
    place: Place
    index: int
    variable: str = ""

    @property
    def shown(self) -> str:
        """How a message calls it."""
        return f"{self.key.name or f'a key of {self.key.tenant.name}'} ({self.shown_digest})"

    @property
    def shown_digest(self) -> str:
        """Enough of the digest to know it by; not what stands for a variable that may not be set here."""
        return self.variable or f"sha256:{self.digest[:DIGEST_DIGITS]}"


@dataclass(frozen=True, slots=True)
class Keys:
    """All of a policy's keys."""

    source: Source
    compiled: Compiled
    held: tuple[Held, ...]

    def tenant(self, name: str) -> Tenant:
        """The tenant of that name. Raises KeysRefused."""
        tenants = self.compiled.snapshot.tenants
        if name not in tenants:
            hint = did_you_mean(name, tenants) or "a policy names its tenants under `tenants:`"
            raise KeysRefused(f"no tenant `{name}` in `{self.source.path}` (hint: {hint})")
        return tenants[name]

    def owner(self, word: str) -> tuple[Tenant, str]:
        """The tenant and the key's name that `TENANT[/NAME]` stands for: names may have slashes of their own."""
        tenants = self.compiled.snapshot.tenants
        parts = word.split("/")
        for end in range(len(parts), 0, -1):
            if "/".join(parts[:end]) in tenants:
                return tenants["/".join(parts[:end])], "/".join(parts[end:])
        return self.tenant(parts[0]), ""

    def find(self, word: str) -> Held:
        """The key that `TENANT/NAME`, or `sha256:` and the first digits, stands for. Raises KeysRefused."""
        prefix = _PREFIX.fullmatch(word)
        if prefix is None:
            found = [one for one in self.held if one.key.name == word]
        elif len(prefix[1]) < _MIN_PREFIX:
            raise KeysRefused(f"`{word}` is too short (hint: give {_MIN_PREFIX} digits or more)")
        else:
            found = [one for one in self.held if one.digest.startswith(prefix[1].lower()) and not one.variable]
        if not found:
            names = [one.key.name for one in self.held if one.key.name]
            hint = did_you_mean(word, names) if prefix is None else ""
            raise KeysRefused(f"no key `{word}` in `{self.source.path}` (hint: {hint or '`spillway keys list`'})")
        if len(found) > 1:
            names = [one.shown for one in found]
            raise KeysRefused(f"`{word}` may be any of {', '.join(names)} (hint: give more digits)")
        return found[0]

    def file_of(self, tenant: str) -> SourceFile:
        """The first file that has a list of the tenant's keys."""
        path = self.compiled.document.keys["tenants", tenant, "keys"].path
        return self.file(path)

    def file(self, path: str) -> SourceFile:
        """The file of that path, as problems spell it."""
        return next(file for file in self.source.files if file.path == path)


def read_keys(path: Path) -> Keys:
    """The keys of the policy at `path`, a file or a folder. Raises KeysRefused, also when the policy has mistakes."""
    try:
        source = read_source(path)
        compiled = checked(source)
    except PolicyError as error:
        raise KeysRefused(listing(error.problems)) from None
    except PriceListUnreadable as error:
        raise KeysRefused(str(error)) from None
    return Keys(source, compiled, tuple(_held(compiled)))


def _held(compiled: Compiled) -> Iterable[Held]:
    document, snapshot = compiled.document, compiled.snapshot
    for tenant, spec in document.root.get("tenants", {}).items():
        counts: dict[str, int] = {}
        for index, item in enumerate(spec["keys"]):
            written = item["digest"] if isinstance(item, dict) else item
            digest = key_digest(written)
            place = document.place(("tenants", tenant, "keys", index))
            position = counts.get(place.path, 0)
            counts[place.path] = position + 1
            yield Held(
                key=snapshot.keys[bytes.fromhex(digest)],
                digest=digest,
                place=place,
                index=position,
                variable=written.shown if isinstance(written, Interpolated) else "",
            )


def check_with(keys: Keys, edited: SourceFile) -> None:
    """Compile the policy with one file edited. Raises KeysRefused with what would be wrong then."""
    files = tuple(edited if file.path == edited.path else file for file in keys.source.files)
    try:
        checked(replace(keys.source, files=files))
    except PolicyError as error:
        raise KeysRefused(f"{listing(error.problems)}\nnothing is written: the policy would have mistakes") from None


def write(before: SourceFile, after: SourceFile) -> None:
    """Replace the file on the disk in one step, if it still holds what it held. Raises KeysRefused."""
    path = Path(after.path).resolve()
    try:
        data = path.read_bytes()
        mark = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
        if data != mark + before.text.encode():
            raise KeysRefused(f"`{after.path}` has changed meanwhile: nothing is written (hint: try again)")
        _replace(path, mark + after.text.encode())
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        hint = "a mounted ConfigMap or Secret is read-only: change it at its origin, or see `--secret`"
        raise KeysRefused(f"`{after.path}` cannot be written: {reason} (hint: {hint})") from None


def _replace(path: Path, data: bytes) -> None:
    """Put a whole file with the same mode and owner in the place of the one at `path`."""
    found = path.stat()
    if not os.access(path, os.W_OK):
        raise PermissionError(13, os.strerror(13))
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123  (a descriptor, not a path)
            file.write(data)
            file.flush()
            os.fchmod(descriptor, found.st_mode & 0o7777)
            with contextlib.suppress(PermissionError):
                os.fchown(descriptor, found.st_uid, found.st_gid)
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
