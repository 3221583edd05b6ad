"""Compiles `tenants`: whose keys are whose, and what each may ask for."""

from __future__ import annotations

from proxy.policy.findings import Findings
from proxy.policy.model import Tenant
from proxy.policy.schema import TenantSpec


def compile_tenants(
    specs: dict[str, TenantSpec], models: frozenset[str], findings: Findings
) -> tuple[dict[str, Tenant], dict[bytes, Tenant]]:
    """(tenants by name, tenants by the raw digest of each of their keys)."""
    tenants: dict[str, Tenant] = {}
    keys: dict[bytes, Tenant] = {}
    for name, spec in specs.items():
        loc = ("tenants", name)
        tenant = Tenant(
            name=name,
            key_digests=tuple(dict.fromkeys(spec.keys)),
            tags=frozenset(spec.tags),
            models=None if spec.models is None else frozenset(spec.models),
        )
        tenants[name] = tenant
        for index, model in enumerate(spec.models or ()):
            if model not in models:
                findings.unknown((*loc, "models", index), "model", model, models)
        for index, digest in enumerate(spec.keys):
            owner = keys.setdefault(bytes.fromhex(digest), tenant)
            if owner is not tenant:
                hint = "make a key for each tenant"
                findings.problem((*loc, "keys", index), f"tenant `{owner.name}` has the same key", hint)
            elif digest in spec.keys[:index]:
                findings.problem((*loc, "keys", index), "the same key twice", "remove one")
    return tenants, keys
