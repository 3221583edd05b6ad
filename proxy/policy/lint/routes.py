"""Lints of one route: what its gates, wishes and shadows cannot mean, and what its match takes that nobody answers.

Theory of operation
-------------------
Only what the policy settles by itself is looked at, and only what holds for every target that the route may use: a rule
that one target keeps and another misses is doing its work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from proxy.policy.checks import Check
from proxy.policy.engine_steps import PRECISIONS
from proxy.policy.findings import Findings
from proxy.policy.lint.scope import Scope
from proxy.policy.model import (
    NEEDED,
    Capability,
    Lane,
    Modality,
    Objective,
    Prefer,
    Rules,
    Target,
    Traffic,
    matches_any,
)
from proxy.policy.promises import STATIC, UNKNOWN, missed_by_policy

_LANES = {Prefer.DEDICATED: Lane.DEDICATED, Prefer.SHARED: Lane.SHARED}


def lint_route(scope: Scope, findings: Findings) -> None:
    """All that can be said of the route by itself."""
    _idle_words(scope, findings)
    _shadow(scope, findings)
    _impossible_wants(scope, findings)
    _pointless_rules(scope, findings)
    _idle_keys(scope, findings)
    _unsupported(scope, findings)


def _idle_words(scope: Scope, findings: Findings) -> None:
    """One of several globs of a gate that no target of the route's models fits, or a word that is no precision.

    A list of precisions says what is good enough, so a usual one that no target has today is no finding.
    """
    require, targets = scope.route.require, scope.all_targets
    regions = {target.region for target in targets} - UNKNOWN
    for glob in require.regions if len(require.regions) > 1 else ():
        if not any(matches_any(region, (glob,)) for region in regions):
            seen = ", ".join(f"`{region}`" for region in sorted(regions))
            message = f"no target of this route's models has a region like `{glob}`: they have {seen}"
            findings.warning(Check.MATCHES_NOTHING, (*scope.loc, "require", "region"), message, "remove or correct it")
    for word in sorted(require.quantization - PRECISIONS) if len(require.quantization) > 1 else ():
        if all(target.quantization != word for target in targets):
            message = f"no target of this route's models has the quantization `{word}`"
            at = (*scope.loc, "require", "quantization")
            findings.warning(Check.MATCHES_NOTHING, at, message, "remove it, or state it on a target")


def _shadow(scope: Scope, findings: Findings) -> None:
    """A gate in shadow that would leave nothing if it were in force."""
    rules, targets = scope.route.shadow_require, scope.targets
    if targets and all(missed_by_policy(target, rules, strict=True) for target in targets):
        rule = missed_by_policy(targets[0], rules, strict=True)[0].rule
        message = f"in force, the shadow rules of route `{scope.route.name}` would refuse everything"
        hint = "add a target that keeps them before you enforce them"
        findings.warning(Check.SHADOW_REFUSES_ALL, (*scope.loc, "require", rule), message, hint)


def _impossible_wants(scope: Scope, findings: Findings) -> None:
    route, targets = scope.route, scope.targets
    for rule in STATIC if targets else ():
        misses = [rule(target, route.want, False) for target in targets]
        first = misses[0]
        if first is not None and all(misses):
            message = f"no lawful target has {first.rule} `{first.limit}`: every answer would miss the wish"
            hint = "remove the wish, or add a target that keeps it"
            findings.warning(Check.IMPOSSIBLE_WANT, (*scope.loc, "want", first.rule), message, hint)
    lane = _LANES.get(route.prefer)
    if targets and lane is not None and all(target.lane is not lane for target in targets):
        message = f"`prefer: {route.prefer}`, and no lawful target is {route.prefer}"
        findings.warning(Check.IMPOSSIBLE_WANT, (*scope.loc, "prefer"), message, "remove it, or add such a target")


def _pointless_rules(scope: Scope, findings: Findings) -> None:
    require, want = scope.route.require, scope.route.want
    for block, rules in (("require", require), ("want", want)):
        for objective, tighter in _implied(rules.objectives):
            _pointless(scope, findings, block, objective.rule, f"`{tighter.rule}` beside it asks for as much")
    for objective in want.objectives:
        if any(_implies(gate, objective) for gate in require.objectives):
            _pointless(scope, findings, "want", objective.rule, "`require` holds to as much")
    for rule, implied in _IMPLIED.items():
        if implied(require, want):
            _pointless(scope, findings, "want", rule, "`require` holds to as much")


def _pointless(scope: Scope, findings: Findings, block: str, rule: str, why: str) -> None:
    findings.warning(
        Check.POINTLESS_RULE, (*scope.loc, block, rule), f"`{block}.{rule}` changes nothing: {why}", "remove it"
    )


def _implied(objectives: tuple[Objective, ...]) -> Iterator[tuple[Objective, Objective]]:
    """Each objective that cannot be missed while another is kept, with that one; of two that are alike, the second."""
    for place, one in enumerate(objectives):
        before, after = objectives[:place], objectives[place + 1 :]
        tighter = [other for other in before if _implies(other, one)]
        tighter += [other for other in after if _implies(other, one) and not _implies(one, other)]
        if tighter:
            yield one, tighter[0]


def _implies(tight: Objective, loose: Objective) -> bool:
    """Whether a quantile within `tight` is one within `loose`: as high a quantile, of that or of the whole answer."""
    metric, quantile = _measure(tight)
    other, lower = _measure(loose)
    return (metric == other or (metric, other) == ("e2e", "ttft")) and (
        quantile >= lower and tight.limit_s <= loose.limit_s
    )


def _measure(objective: Objective) -> tuple[str, str]:
    metric, quantile, _ = objective.field.split("_")
    return metric, quantile


_IMPLIED: dict[str, Callable[[Rules, Rules], bool]] = {
    "lane": lambda require, want: want.lane is not None and want.lane is require.lane,
    "tags": lambda require, want: bool(want.tags) and want.tags <= require.tags,
    "training": lambda require, want: want.no_training and require.no_training,
    "region": lambda require, want: bool(require.regions) and set(require.regions) <= set(want.regions),
    "retention": lambda require, want: bool(require.retention) and set(require.retention) <= set(want.retention),
    "quantization": lambda require, want: bool(require.quantization) and require.quantization <= want.quantization,
    "usd_per_mtok": lambda require, want: _at_most(require.nano_usd_per_mtok, want.nano_usd_per_mtok),
    "max_usd_per_request": lambda require, want: _at_most(
        require.max_nano_usd_per_request, want.max_nano_usd_per_request
    ),
    "uptime": lambda require, want: _at_most(want.uptime, require.uptime),
}
"""By rule, whether the gates hold to as much as the wishes ask for."""


def _at_most(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and one <= other


def _idle_keys(scope: Scope, findings: Findings) -> None:
    """A hedge without another target to go to; a deadline without offline traffic, or without GPUs to wait for."""
    route, targets = scope.route, scope.targets
    if route.hedge is not None and scope.lawful and all(len(lawful) < 2 for lawful in scope.lawful.values()):
        _idle(scope, findings, "hedge", "no model of this route has a second lawful target for the copy")
    if route.deadline_s is None:
        return
    if route.match.traffic is Traffic.ONLINE:
        _idle(scope, findings, "deadline", "it is for offline traffic, and the route takes none")
    elif targets and all(target.lane is Lane.SHARED for target in targets):
        _idle(scope, findings, "deadline", "no lawful target is dedicated, so there are no GPUs to wait for")


def _idle(scope: Scope, findings: Findings, key: str, why: str) -> None:
    findings.warning(Check.IDLE_KEY, (*scope.loc, key), f"`{key}` changes nothing: {why}", "remove it")


def _unsupported(scope: Scope, findings: Findings) -> None:
    """What the match takes, and none of the route's targets can answer."""
    match, targets = scope.route.match, scope.targets
    if not targets:
        return
    for endpoint in sorted(match.endpoints or ()):
        if not any(target.serves(endpoint) for target in targets):
            _unanswered(scope, findings, "endpoint", f"serves the endpoint `{endpoint}`")
    if match.tools and not any(_supports(target, Capability.TOOLS) for target in targets):
        _unanswered(scope, findings, "tools", "supports tools")
    for modality in sorted((match.modalities or frozenset()) - {Modality.TEXT}):
        if not any(_supports(target, NEEDED[modality]) for target in targets):
            _unanswered(scope, findings, "modality", f"supports `{NEEDED[modality]}`")
    windows = [target.context_window for target in targets if target.context_window is not None]
    least = match.min_input_tokens
    if least is not None and len(windows) == len(targets) and max(windows) < least:
        _unanswered(scope, findings, "input_tokens", f"has a context window of {least} tokens")


def _supports(target: Target, capability: Capability) -> bool:
    return target.supports is None or capability in target.supports


def _unanswered(scope: Scope, findings: Findings, key: str, claim: str) -> None:
    message = f"none of this route's lawful targets {claim}: it could only refuse such requests"
    findings.warning(Check.NOTHING_SUPPORTS, (*scope.loc, "match", key), message, "add a target, or leave them out")
