"""Makes one key for `spillway keys create`, and says, or writes, what the policy has to say of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from proxy.cli.keys_edit import NotEditable, with_key
from proxy.cli.keys_item import digest_of, item_of, new_key
from proxy.cli.keys_policy import Keys, KeysRefused, check_with, read_keys, write
from proxy.cli.keys_secret import is_namespace, is_secret_name, manifest
from proxy.policy import units, words
from proxy.policy.problem import Mistake
from proxy.policy.source import SourceFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `create` was asked for beside the key; limits are as a policy writes them."""

    tags: tuple[str, ...] = ()
    limits: dict[str, str]
    policy: Path | None = None
    write: bool = False
    secret: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The key itself, the manifest if one was wanted, and what to tell about them."""

    key: str
    manifest: str
    told: str


def created(word: str, options: Options) -> Made:
    """A new key for `TENANT[/NAME]`. Raises KeysRefused, and then nothing has been written."""
    _check_options(options)
    keys = None if options.policy is None else read_keys(options.policy)
    tenant, name = _owner(keys, word)
    if options.limits and not name:
        raise KeysRefused(f"a key with limits needs a name (hint: `{tenant}/ci`; it appears in errors and logs)")
    if keys is not None and name and any(one.key.name == f"{tenant}/{name}" for one in keys.held):
        raise KeysRefused(f"there is a key `{tenant}/{name}` already (hint: choose another name, or revoke it first)")
    key = new_key()
    digest = digest_of(key)
    item = item_of(digest, name, options.tags, options.limits)
    told = [f"digest  sha256:{digest}"]
    if options.secret:
        if keys is not None:
            _placed(keys, tenant, item)
        return Made(key=key, manifest=manifest(options.secret, options.namespace, tenant, item), told=told[0])
    if keys is None:
        told.append(f"policy  add to `keys:` of tenant `{tenant}`:\n  - {item}")
    else:
        told.append(_put(keys, tenant, item, written=options.write))
    return Made(key=key, manifest="", told="\n".join(told))


def _put(keys: Keys, tenant: str, item: str, *, written: bool) -> str:
    before, after, line = _placed(keys, tenant, item)
    if written:
        write(before, after)
        return f"policy  written to {after.path}:{line}"
    return f"policy  add at {after.path}:{line}, or say `--write`:\n  - {item}"


def _placed(keys: Keys, tenant: str, item: str) -> tuple[SourceFile, SourceFile, int]:
    """The file before and after, and the line; the policy compiles with it."""
    file = keys.file_of(tenant)
    try:
        edited, line = with_key(file, tenant, item)
    except NotEditable as error:
        raise KeysRefused(str(error)) from None
    check_with(keys, edited)
    return file, edited, line


def _owner(keys: Keys | None, word: str) -> tuple[str, str]:
    """Tenant and name of the key; without a policy, the tenant is what comes before the first slash."""
    if keys is None:
        tenant, _, name = word.partition("/")
    else:
        found, name = keys.owner(word)
        tenant = found.name
    try:
        words.name(tenant)
        if name or word.endswith("/"):
            words.name(name)
    except Mistake as mistake:
        raise KeysRefused(f"{mistake.message} (hint: {mistake.hint})") from None
    return tenant, name


def _check_options(options: Options) -> None:
    if options.write and options.secret:
        raise KeysRefused("`--write` and `--secret` are two places (hint: give one of them)")
    if options.write and options.policy is None:
        raise KeysRefused("`--write` needs the policy (hint: name it with `--policy`)")
    if options.namespace and not options.secret:
        raise KeysRefused("`--namespace` is that of a Secret (hint: add `--secret NAME`)")
    if options.secret and not is_secret_name(options.secret):
        raise KeysRefused(f"`{options.secret}` is no name for a Secret (hint: small letters, digits, `-` and `.`)")
    if options.namespace and not is_namespace(options.namespace):
        raise KeysRefused(f"`{options.namespace}` is no namespace (hint: small letters, digits and `-`)")
    try:
        for tag in options.tags:
            words.name(tag)
        for value in options.limits.values():
            units.count(value)
    except Mistake as mistake:
        raise KeysRefused(f"{mistake.message} (hint: {mistake.hint})") from None
