"""What a policy test expects of a decision, key by key: how it is read, what the router says to it, what holds.

Theory of operation
-------------------
Each key of `expect` looks at one side of a decision. Only what is stated is compared, so that a test says what it is
about and survives changes to the rest. `excluded` and `shadow` are compared by the subjects that they name; an empty
mapping there expects nothing at all. Nothing is judged here: the decision is the router's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.policy import words
from proxy.policy.document import Loc
from proxy.policy.findings import Findings
from proxy.policy.model import Lane, Snapshot
from proxy.policy.problem import Mistake
from proxy.policy.shape import BROKEN, Reader, listed, one
from proxy.policy.variables import shown
from proxy.policy.words import did_you_mean
from proxy.routing.plan import Cause, Decision, Exclusion, Plan, Refusal

Expected = Mapping[str, Any]
"""By key, what is stated."""

FIRST_CAUSES = (Cause.PREFERRED, Cause.SPILLOVER)


@dataclass(frozen=True, slots=True)
class Aspect:
    """One key: the reader of its value, what a decision says, and whether that is what was stated.

    `of` is the kind of decision that it is about, None for both.
    """

    read: Reader
    said: Callable[[Decision], Any]
    holds: Callable[[Any, Any], bool]
    of: type[Plan] | type[Refusal] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One key of `expect` that does not hold."""

    key: str
    expected: Any
    said: Any


def subject(exclusion: Exclusion) -> str:
    """The target of an exclusion, or the scope of one that speaks of a rate (see `limits.Over.exclusion`)."""
    return exclusion.target or exclusion.observed.rpartition(" by ")[2]


def by_subject(exclusions: Iterable[Exclusion]) -> dict[str, tuple[str, ...]]:
    """The rules of the exclusions, by what they exclude."""
    found: dict[str, tuple[str, ...]] = {}
    for exclusion in exclusions:
        rules = found.setdefault(subject(exclusion), ())
        if exclusion.rule not in rules:
            found[subject(exclusion)] = (*rules, exclusion.rule)
    return found


def planned(decision: Decision) -> tuple[str, ...]:
    """The targets of the plan in order, each once, whatever the number of its replicas."""
    attempts = decision.attempts if isinstance(decision, Plan) else ()
    return tuple(dict.fromkeys(attempt.target.name for attempt in attempts))


def differences(expected: Expected, decision: Decision) -> tuple[Difference, ...]:
    """What was stated and is not so, in the order in which it was stated."""
    found = []
    for name, stated in expected.items():
        aspect = ASPECTS[name]
        said = aspect.said(decision)
        if not aspect.holds(stated, said):
            found.append(Difference(key=name, expected=stated, said=said))
    return tuple(found)


def read_expected(value: object, snapshot: Snapshot, loc: Loc, findings: Findings) -> Expected | None:
    """The keys of one `expect`, or None when something is wrong with them, which is noted."""
    if not isinstance(value, dict):
        hint = f"it takes {', '.join(f'`{name}:`' for name in ASPECTS)}"
        findings.problem(loc, f"expected a mapping, got {shown(value)}", hint)
        return None
    expected: dict[str, Any] = {}
    for name, item in value.items():
        at = (*loc, name)
        if name not in ASPECTS:
            findings.problem(at, f"unknown key {shown(name)} in `expect`", did_you_mean(name, ASPECTS), key=True)
            continue
        stated = ASPECTS[name].read(item, at, findings)
        if stated is not BROKEN:
            _check_names(name, stated, snapshot, at, findings)
            expected[name] = stated
    return expected if len(expected) == len(value) else None


_KINDS = {
    "route": "route",
    "first": "target",
    "attempts": "target",
    "not": "target",
    "excluded": "target",
    "downgraded": "model",
}
"""By key of `expect`, what it names."""


def _check_names(name: str, stated: Any, snapshot: Snapshot, loc: Loc, findings: Findings) -> None:
    """A name that the policy does not have would make a test pass, or fail, for no reason that it gives."""
    kind = _KINDS.get(name, "")
    routes = {route.name for route in snapshot.routes}
    known = {"route": routes, "model": snapshot.models.keys()}.get(kind, snapshot.targets.keys())
    for word in () if not kind or stated is False else (stated,) if isinstance(stated, str) else stated:
        if word not in known and ":" not in word:
            hint = did_you_mean(word, known) or f"name a {kind} of the policy"
            findings.problem(loc, f"unknown {kind} `{word}`", hint)


def _first(decision: Decision, name: str) -> Any:
    return getattr(decision.attempts[0], name) if isinstance(decision, Plan) else None


def _reason(decision: Decision) -> str:
    return decision.attempts[0].reason if isinstance(decision, Plan) else decision.message


def _refused(decision: Decision) -> tuple[str, ...]:
    return (decision.rule, decision.code) if isinstance(decision, Refusal) else ()


def _of_refusal(name: str) -> Callable[[Decision], Any]:
    return lambda decision: getattr(decision, name) if isinstance(decision, Refusal) else None


def _same(stated: object, said: object) -> bool:
    return stated == said


def _within(stated: str, said: str) -> bool:
    return stated in said


def _rules_within(stated: Mapping[str, tuple[str, ...]], said: Mapping[str, tuple[str, ...]]) -> bool:
    if not stated:
        return not said
    return all(set(rules) <= set(said.get(name, ())) for name, rules in stated.items())


def _apart(stated: tuple[str, ...], said: tuple[str, ...]) -> bool:
    return not set(stated) & set(said)


def _status(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 400 <= value <= 599:
        raise Mistake(f"expected the status of a refusal, got {shown(value)}", "write `429`")
    return value


def _first_cause(value: object) -> Cause:
    if value not in FIRST_CAUSES:
        raise Mistake(
            f"expected `preferred` or `spillover`, got {shown(value)}", did_you_mean(str(value), FIRST_CAUSES)
        )
    return Cause(str(value))


def _other_model(value: object) -> str | bool:
    """The model that a spent budget has served instead, or `false` for the one that was asked for."""
    return False if value is False else words.name(value)


_RULES = listed(one(words.text), or_one=True)


def _rules_by_subject(value: object, loc: Loc, findings: Findings) -> Any:
    if not isinstance(value, dict):
        findings.problem(loc, f"expected a mapping, got {shown(value)}", "write `{target: rule}`")
        return BROKEN
    found = {name: _RULES(item, (*loc, name), findings) for name, item in value.items()}
    return BROKEN if any(rules is BROKEN for rules in found.values()) else found


_WORD = one(words.text)
_FLAG = one(words.flag)
_TARGETS = listed(_WORD, or_one=True, may_be_empty=True)

ASPECTS: Mapping[str, Aspect] = {
    "route": Aspect(_WORD, lambda decision: decision.route, _same),
    "attempts": Aspect(listed(_WORD, or_one=True), planned, _same, Plan),
    "first": Aspect(_WORD, lambda decision: next(iter(planned(decision)), None), _same, Plan),
    "cause": Aspect(one(_first_cause), lambda decision: _first(decision, "cause"), _same, Plan),
    "lane": Aspect(
        one(words.one_of(Lane)),
        lambda decision: decision.attempts[0].target.lane if isinstance(decision, Plan) else None,
        _same,
        Plan,
    ),
    "relaxed": Aspect(_FLAG, lambda decision: isinstance(decision, Plan) and decision.relaxed, _same, Plan),
    "refused": Aspect(_WORD, _refused, _within, Refusal),
    "status": Aspect(one(_status), _of_refusal("status"), _same, Refusal),
    "retry": Aspect(_FLAG, lambda decision: isinstance(decision, Refusal) and bool(decision.retryable), _same, Refusal),
    "reason": Aspect(_WORD, _reason, _within),
    "excluded": Aspect(_rules_by_subject, lambda decision: by_subject(decision.excluded), _rules_within),
    "shadow": Aspect(_rules_by_subject, lambda decision: by_subject(decision.shadow), _rules_within),
    "not": Aspect(_TARGETS, planned, _apart),
    "downgraded": Aspect(
        one(_other_model),
        lambda decision: isinstance(decision, Plan) and (decision.served_as or False),
        _same,
        Plan,
    ),
}
"""In the order in which they are written."""
