"""The sections of a policy: reads each item of each section, and keeps those that are sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from proxy.policy import words
from proxy.policy.checks import Check
from proxy.policy.document import Document
from proxy.policy.findings import Findings
from proxy.policy.problem import Mistake
from proxy.policy.schema import (
    BudgetSpec,
    CandidateSpec,
    RouteSpec,
    TargetSpec,
    TenantSpec,
)
from proxy.policy.shape import BROKEN, Reader, listed, note_unknown, shaped
from proxy.policy.variables import shown

VERSION = 1
SECTIONS = ("version", "targets", "models", "tenants", "auth", "routes", "budgets")
_REQUIRED = {
    "version": "write `version: 1` as the first line",
    "targets": "name at least one deployment or provider under `targets:`",
    "models": "write, for each name that apps ask for, its targets: `models: {name: [target]}`",
}
_EMPTY = {
    "targets": "name at least one deployment or provider",
    "models": "name at least one model and its targets",
    "tenants": "list at least one, or remove the section; without tenants the server listens on loopback only",
    "routes": "list at least one, or remove the section; without routes one named `default` takes everything",
    "budgets": "list at least one, or remove the section",
}
_ITEMS = {
    "routes": "write `- name: default`, one route an item",
    "budgets": "write `- {name: growth, limit: $500/day}`, one budget an item",
}

TARGET = shaped(TargetSpec)
CANDIDATES = listed(shaped(CandidateSpec, shorthand="target"))
TENANT = shaped(TenantSpec)
ROUTE = shaped(RouteSpec)
BUDGET = shaped(BudgetSpec)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySpec:
    """The sound part of a policy.

    Routes keep their index among all `route_count` that are written; None is no `routes` section at all. So do budgets.
    """

    targets: dict[str, TargetSpec]
    models: dict[str, tuple[CandidateSpec, ...]]
    tenants: dict[str, TenantSpec]
    routes: tuple[tuple[int, RouteSpec], ...] | None
    route_count: int
    open_to_all: bool
    budgets: tuple[tuple[int, BudgetSpec], ...]


def read_sections(document: Document, findings: Findings) -> PolicySpec:
    """Read every section; an item that is not sound is noted, dropped, and left out."""
    root = document.root
    for name in root.keys() - set(SECTIONS):
        note_unknown(name, (), dict.fromkeys(SECTIONS), findings)
    for name, hint in _REQUIRED.items():
        if name not in root:
            findings.problem((name,), f"`{name}` is missing", hint, check=Check.MISSING_KEY)
            findings.drop((name,))
    for name, hint in _EMPTY.items():
        if name in root and root[name] in ({}, []):
            findings.problem((name,), f"`{name}` is empty", hint, key=True)
            findings.drop((name,))
    _check_version(root, findings)
    return PolicySpec(
        targets=_named("targets", TARGET, root, findings),
        models=_named("models", CANDIDATES, root, findings),
        tenants=_named("tenants", TENANT, root, findings),
        routes=_listed("routes", ROUTE, root, findings) if "routes" in root else None,
        route_count=len(root["routes"]) if isinstance(root.get("routes"), list) else 0,
        open_to_all=_auth(root, findings),
        budgets=_listed("budgets", BUDGET, root, findings) if "budgets" in root else (),
    )


def _check_version(root: dict[str, Any], findings: Findings) -> None:
    version = root.get("version", VERSION)
    if version != VERSION or isinstance(version, bool):
        message = f"policy version {shown(version)} is not supported"
        findings.problem(("version",), message, f"write `version: {VERSION}`")


def _auth(root: dict[str, Any], findings: Findings) -> bool:
    if "auth" not in root:
        return False
    if root["auth"] != "none":
        hint = "write `auth: none` to let everybody in, or remove it and list `tenants`"
        findings.problem(("auth",), f"expected `none`, got {shown(root['auth'])}", hint)
    if "tenants" in root:
        hint = "remove `auth: none` to keep the tenants' keys, or remove `tenants`"
        message = "`auth: none` and `tenants` contradict each other"
        findings.problem(("auth",), message, hint, key=True, check=Check.CONTRADICTION)
    return True


def _named(section: str, member: Reader, root: dict[str, Any], findings: Findings) -> dict[str, Any]:
    written = root.get(section, {})
    if not isinstance(written, dict):
        message = f"`{section}` is a mapping, not {shown(written)}"
        findings.problem((section,), message, "write `name: ...`, one to a line")
        findings.drop((section,))
        return {}
    sound: dict[str, Any] = {}
    for name, item in written.items():
        loc = (section, name)
        read = member(item, loc, findings)
        if _is_name(name, section, findings) and read is not BROKEN:
            sound[name] = read
        else:
            findings.drop(loc)
    return sound


def _is_name(name: str, section: str, findings: Findings) -> bool:
    try:
        words.name(name)
    except Mistake as mistake:
        findings.mistake((section, name), mistake, key=True)
        return False
    return True


def _listed(section: str, member: Reader, root: dict[str, Any], findings: Findings) -> tuple[tuple[int, Any], ...]:
    """The sound items of a section that is a list, each with its index there."""
    written = root[section]
    if not isinstance(written, list):
        message = f"`{section}` is a list, not {shown(written)}"
        findings.problem((section,), message, _ITEMS[section])
        findings.drop((section,))
        return ()
    sound: list[tuple[int, Any]] = []
    for index, item in enumerate(written):
        read = member(item, (section, index), findings)
        if read is BROKEN:
            findings.drop((section, index))
        else:
            sound.append((index, read))
    return tuple(sound)
