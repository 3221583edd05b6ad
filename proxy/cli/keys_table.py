"""The keys of a policy as a table for a terminal, and as data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from proxy.cli.keys_policy import Held, Keys
from proxy.policy.model import Limits, Mode, Tenant

PIPE_COLUMNS = 120
_LIMITS = ("rpm", "tpm", "concurrency")


def print_keys(keys: Keys) -> None:
    """One row a key; a tenant's own tags and limits stand beside its name."""
    console = Console() if sys.stdout.isatty() else Console(width=PIPE_COLUMNS)
    if not keys.compiled.snapshot.tenants:
        console.print(f"{keys.source.path} has no tenants: nobody needs a key")
        return
    console.print(_table(keys))


def keys_json(keys: Keys) -> bytes:
    """Tenants with their keys; digests are cut as in the table."""
    tenants = [
        {"tenant": tenant.name, "tags": sorted(tenant.tags), **_limits(tenant.limits), "keys": _of(tenant, keys)}
        for tenant in keys.compiled.snapshot.tenants.values()
    ]
    return msgspec.json.format(msgspec.json.encode({"policy": keys.source.path, "tenants": tenants}))


def _of(tenant: Tenant, keys: Keys) -> list[dict[str, Any]]:
    return [
        {
            "name": held.key.name or None,
            "digest": held.shown_digest,
            "tags": sorted(held.key.tags - tenant.tags),
            **_limits(held.key.limits),
            "file": held.place.path,
            "line": held.place.line,
        }
        for held in keys.held
        if held.key.tenant is tenant
    ]


def _table(keys: Keys) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("tenant", "key", "digest", "tags", "limits", "where"):
        table.add_column(name, no_wrap=name in ("tenant", "key", "digest"))
    for tenant in keys.compiled.snapshot.tenants.values():
        own = [held for held in keys.held if held.key.tenant is tenant]
        if tenant.tags or tenant.limits or not own:
            said = "" if own else "no key: nobody gets in"
            table.add_row(tenant.name, said, "", _words(tenant.tags), _told(tenant.limits), "", style="bold")
        for held in own:
            table.add_row(*_cells(held))
    return table


def _cells(held: Held) -> tuple[str, ...]:
    tenant = held.key.tenant
    return (
        tenant.name,
        held.key.name.removeprefix(f"{tenant.name}/") or "-",
        held.shown_digest,
        _words(held.key.tags - tenant.tags),
        _told(held.key.limits),
        f"{Path(held.place.path).name}:{held.place.line}",
    )


def _words(tags: frozenset[str]) -> str:
    return ", ".join(sorted(tags))


def _limits(limits: Limits) -> dict[str, Any]:
    stated = {name: getattr(limits, name) for name in _LIMITS if getattr(limits, name) is not None}
    return {**stated, "mode": limits.mode.value} if stated else {}


def _told(limits: Limits) -> str:
    stated = [f"{getattr(limits, name):,} {name}" for name in _LIMITS if getattr(limits, name) is not None]
    return ", ".join(stated) + (" (shadow)" if stated and limits.mode is Mode.SHADOW else "")
