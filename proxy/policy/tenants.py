"""Compiles `tenants`: whose keys are whose, and what each may ask for and how much of it."""

from __future__ import annotations

from dataclasses import replace

from proxy.policy.checks import Check
from proxy.policy.findings import Findings
from proxy.policy.model import UNLIMITED, Key, Limits, Priority, Tenant
from proxy.policy.schema import KeySpec, LimitsSpec, TenantSpec


def compile_tenants(
    specs: dict[str, TenantSpec], models: frozenset[str], findings: Findings
) -> tuple[dict[str, Tenant], dict[bytes, Key]]:
    """(tenants by name, keys by the raw digest of each)."""
    tenants: dict[str, Tenant] = {}
    keys: dict[bytes, Key] = {}
    for name, spec in specs.items():
        tenants[name] = Tenant(
            name=name,
            tags=frozenset(spec.tags),
            request_tags=frozenset(spec.request_tags),
            models=None if spec.models is None else frozenset(spec.models),
            limits=limits_of(spec),
            priority=Priority[spec.priority.name],
        )
        for index, model in enumerate(spec.models or ()):
            if model not in models:
                findings.unknown(("tenants", name, "models", index), "model", model, models)
        for index, key in enumerate(spec.keys):
            _add(tenants[name], index, key, spec, keys, findings)
    return tenants, keys


def limits_of(spec: TenantSpec | KeySpec | LimitsSpec) -> Limits:
    """The limits that a spec states, `UNLIMITED` when it states none."""
    if spec.rpm is None and spec.tpm is None and spec.concurrency is None:
        return UNLIMITED
    given = Limits(rpm=spec.rpm, tpm=spec.tpm, concurrency=spec.concurrency)
    return given if isinstance(spec, LimitsSpec) else replace(given, mode=spec.mode)


def _add(
    tenant: Tenant, index: int, spec: KeySpec, among: TenantSpec, keys: dict[bytes, Key], findings: Findings
) -> None:
    loc = ("tenants", tenant.name, "keys", index)
    key = Key(
        tenant=tenant,
        name=f"{tenant.name}/{spec.name}" if spec.name else "",
        tags=tenant.tags | frozenset(spec.tags),
        limits=limits_of(spec),
    )
    if spec.name and any(spec.name == earlier.name for earlier in among.keys[:index]):
        findings.problem(loc, f"a second key named `{spec.name}`", "rename one", check=Check.DUPLICATE)
    if key.limits is not UNLIMITED and not spec.name:
        hint = "add `name:`; it appears in errors and logs"
        findings.problem(loc, "a key with limits needs a name", hint, check=Check.MISSING_KEY)
    owner = keys.setdefault(bytes.fromhex(spec.digest), key).tenant
    if owner is not tenant:
        hint = "make a key for each tenant"
        findings.problem(loc, f"tenant `{owner.name}` has the same key", hint, check=Check.DUPLICATE)
    elif any(spec.digest == earlier.digest for earlier in among.keys[:index]):
        findings.problem(loc, "the same key twice", "remove one", check=Check.DUPLICATE)
