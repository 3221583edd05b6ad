"""Compiles a policy: from the YAML on disk to the frozen `Snapshot` that requests are served by.

Theory of operation
-------------------
One path, used by serve and by check alike: read the texts (`source`), parse them to values that know their place
(`document`), check shapes (`schema`), then check that the pieces fit and freeze them (`targets`, `tenants`, `routes`,
`budgets`). Every stage collects its problems, and what is sound is carried on, so that one run shows all mistakes; only
text that is not YAML ends the run early. The environment and the price list are arguments: nothing here reads either.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from proxy.policy import budgets
from proxy.policy.checks import Check
from proxy.policy.document import Document, read_document
from proxy.policy.findings import Findings
from proxy.policy.model import Budget, Candidate, Key, Route, Snapshot, Target, Tenant
from proxy.policy.problem import PolicyError, Problem
from proxy.policy.prompts import reads_content
from proxy.policy.routes import check_lawful, check_names, check_order, check_spans, check_tags, compile_routes
from proxy.policy.schema import CandidateSpec
from proxy.policy.sections import PolicySpec, read_sections
from proxy.policy.source import Source, read_source
from proxy.policy.targets import PriceOf, compile_target, priced_for
from proxy.policy.tenants import compile_tenants

DEFAULT_ROUTE = Route(name="default")


@dataclass(frozen=True, slots=True)
class Compiled:
    """A policy that may be served, what its author may not have meant, and the text of both.

    `declared` are the budgets as they are written, before `each` made several of one.
    """

    snapshot: Snapshot
    warnings: tuple[Problem, ...]
    source: Source
    document: Document
    declared: tuple[budgets.Declared, ...] = ()


def compile_policy(path: Path, *, env: Mapping[str, str], price_of: PriceOf) -> Snapshot:
    """The snapshot of the policy at `path`, a file or a folder; raises `PolicyError` with every problem."""
    return check_policy(path, env=env, price_of=price_of).snapshot


def check_policy(path: Path, *, env: Mapping[str, str], price_of: PriceOf) -> Compiled:
    """`compile_policy`, with the warnings."""
    return check_source(read_source(path), env=env, price_of=price_of)


def check_source(source: Source, *, env: Mapping[str, str], price_of: PriceOf) -> Compiled:
    """`check_policy` for texts that have been read already: what was looked at is then what is compiled."""
    document = read_document(source.files, env)
    findings = Findings(document)
    if () in document.broken:
        raise PolicyError(findings.problems)
    spec = read_sections(document, findings)
    targets = {name: compile_target(name, one, price_of, findings) for name, one in spec.targets.items()}
    models = _models(document, spec, targets, price_of, findings)
    tenants, keys = compile_tenants(spec.tenants, _names(document, "models"), findings)
    routes = _routes(document, spec, models, tenants, keys.values(), findings)
    rest = budgets.Rest(models=models, tenants=tenants, keys=tuple(keys.values()), routes=routes)
    declared = budgets.compile_budgets(spec.budgets, findings)
    enforced = _budgets(document, declared, rest, findings)
    if findings.problems:
        raise PolicyError(findings.problems)
    snapshot = Snapshot(
        digest=source.digest,
        source=source.path,
        targets=MappingProxyType(targets),
        models=MappingProxyType(models),
        routes=routes,
        tenants=MappingProxyType(tenants),
        keys=MappingProxyType(keys),
        open_to_all=spec.open_to_all,
        reads_content=reads_content(targets.values(), routes, enforced),
        budgets=enforced,
    )
    return Compiled(snapshot, findings.warnings, source, document, declared)


def _models(
    document: Document, spec: PolicySpec, targets: Mapping[str, Target], prices: PriceOf, findings: Findings
) -> dict[str, tuple[Candidate, ...]]:
    """Public model name -> candidates. A name that needs a broken target keeps the sound ones."""
    known = _names(document, "targets")
    models: dict[str, tuple[Candidate, ...]] = {}
    for name, candidates in spec.models.items():
        for index, one in enumerate(candidates):
            loc = ("models", name, index)
            if one.target not in known:
                findings.unknown(loc, "target", one.target, known)
            if any(one.target == earlier.target for earlier in candidates[:index]):
                message = f"target `{one.target}` twice in one model"
                findings.problem(loc, message, "list each target once", check=Check.DUPLICATE)
        sound = (one for one in candidates if one.target in targets)
        models[name] = tuple(_candidate(one, spec, targets[one.target], prices) for one in sound)
    return models


def _candidate(one: CandidateSpec, spec: PolicySpec, target: Target, prices: PriceOf) -> Candidate:
    if one.model is None or one.model == target.model:
        return Candidate(target=target, model=target.model)
    is_listed = spec.targets[one.target].price is None
    return Candidate(target=priced_for(target, one.model, prices) if is_listed else target, model=one.model)


def _routes(
    document: Document,
    spec: PolicySpec,
    models: Mapping[str, tuple[Candidate, ...]],
    tenants: Mapping[str, Tenant],
    keys: Collection[Key],
    findings: Findings,
) -> tuple[Route, ...]:
    if spec.routes is None:
        return (DEFAULT_ROUTE,)
    offered = frozenset(candidate.target.retention for candidates in models.values() for candidate in candidates)
    routes = compile_routes(spec.routes, offered)
    named_keys = frozenset(key.name for key in keys if key.name)
    check_names(routes, _names(document, "models"), _names(document, "tenants"), named_keys, findings)
    check_spans(routes, findings)
    check_order(routes, spec.route_count, _names(document, "models"), findings)
    check_tags(routes, tenants, keys, findings)
    if not findings.has_dropped("targets", "models"):
        check_lawful(routes, models, findings)
    return tuple(route for _, route in routes)


def _budgets(
    document: Document, declared: tuple[budgets.Declared, ...], rest: budgets.Rest, findings: Findings
) -> tuple[Budget, ...]:
    names = {section: _names(document, section) for section in ("tenants", "routes", "targets", "models")}
    names["keys"] = frozenset(key.name for key in rest.keys if key.name)
    names["routes"] |= frozenset(route.name for route in rest.routes)
    budgets.check_names(declared, names, findings)
    if findings.has_dropped("targets", "models", "tenants", "routes"):
        return ()
    budgets.check_tags(declared, rest, findings)
    budgets.check_sense(declared, rest, findings)
    return budgets.expand(declared, rest, findings)


def _names(document: Document, section: str) -> frozenset[str]:
    """The names in `section` as written, broken items included: nobody is told that those do not exist."""
    written = document.root.get(section)
    if isinstance(written, list):
        return frozenset(str(one["name"]) for one in written if isinstance(one, dict) and "name" in one)
    return frozenset(written) if isinstance(written, dict) else frozenset()
