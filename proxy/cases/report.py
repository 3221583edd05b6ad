"""What a run of cases found, as plain values and in words.

Theory of operation
-------------------
Pure. The same findings are told three ways: as text for people, as JSON, and as the JUnit XML that CI systems show.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from proxy.cases.case import Result
from proxy.cases.coverage import Coverage
from proxy.cases.expect import Difference
from proxy.cases.update import spelled
from proxy.policy.model import Snapshot
from proxy.routing.plan import Decision, Exclusion, Refusal

NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All results of one policy's cases, in the order of the files, and what the cases have seen of it."""

    snapshot: Snapshot
    results: tuple[Result, ...]
    coverage: Coverage

    @property
    def failed(self) -> tuple[Result, ...]:
        """The cases in which something was not as expected."""
        return tuple(result for result in self.results if not result.passed)


def told(run: Run) -> Iterator[str]:
    """The run line by line: each case, why one failed, and what no case has seen."""
    for result in run.results:
        case = result.case
        if result.passed:
            yield f"ok    {case.name}"
            continue
        yield f"FAIL  {case.name}  ({case.place.path}:{case.place.line}:{case.place.column})"
        yield from (f"      {line}" for line in why(result))
    seen = run.coverage
    for side in seen.missing:
        yield f"not covered: {side}"
    failed = len(run.failed)
    count = f"{len(run.results) - failed} passed" + (f", {failed} failed" if failed else "")
    yield f"{count}; coverage {share(seen)} ({len(seen.sides) - len(seen.missing)} of {len(seen.sides)})"


def why(result: Result) -> Iterator[str]:
    """What was expected, what was said instead, and the reasons that the router gives."""
    for difference in result.differences:
        yield words(difference)
    decision = result.decision
    if isinstance(decision, Refusal):
        yield f"refused: {decision.status} {decision.code}: {decision.message}"
    yield from (f"because {reason(exclusion)}" for exclusion in decision.excluded)
    yield from (f"in shadow, {reason(exclusion)}" for exclusion in decision.shadow)


def words(difference: Difference) -> str:
    """One difference in a line."""
    return f"{difference.key}: expected {_shown(difference.expected)}, got {_shown(difference.said)}"


def reason(exclusion: Exclusion) -> str:
    """One exclusion in a clause: a gate or a state leaves a target out, a wish is only missed."""
    if not exclusion.target:
        return f"{exclusion.rule}: {exclusion.observed} against {exclusion.limit}"
    verb = "misses" if exclusion.rule.startswith("want.") else "is left out by"
    return f"`{exclusion.target}` {verb} {exclusion.rule}: {exclusion.observed} against {exclusion.limit}"


def share(coverage: Coverage) -> str:
    """The share seen, never rounded up to all of it."""
    return f"{int(coverage.share * 1000) / 10:g}%"


def as_json(run: Run) -> dict[str, Any]:
    """The run as values that JSON has."""
    seen = run.coverage
    return {
        "policy": run.snapshot.source,
        "revision": run.snapshot.revision,
        "passed": len(run.results) - len(run.failed),
        "failed": len(run.failed),
        "cases": [_case(result) for result in run.results],
        "coverage": {
            "share": seen.share,
            "sides": len(seen.sides),
            "missing": [{"subject": one.subject, "rule": one.rule, "side": one.side} for one in seen.missing],
        },
    }


def as_junit(run: Run) -> str:
    """The run as JUnit XML, a suite for each file."""
    root = ET.Element("testsuites", name="spillway policy test")
    for path, results in _by_file(run.results).items():
        failed = sum(not result.passed for result in results)
        suite = ET.SubElement(root, "testsuite", name=path, tests=str(len(results)), failures=str(failed))
        for result in results:
            place = result.case.place
            case = ET.SubElement(suite, "testcase", name=result.case.name, file=path, line=str(place.line))
            case.set("classname", path)
            if not result.passed:
                failure = ET.SubElement(case, "failure", message="; ".join(map(words, result.differences)))
                failure.text = "\n".join(why(result))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True)


def _by_file(results: Iterable[Result]) -> Mapping[str, Sequence[Result]]:
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.case.place.path, []).append(result)
    return found


def _case(result: Result) -> dict[str, Any]:
    case, decision = result.case, result.decision
    return {
        "name": case.name,
        "file": case.place.path,
        "line": case.place.line,
        "passed": result.passed,
        "route": decision.route,
        "differences": [
            {"key": one.key, "expected": _plain(one.expected), "got": _plain(one.said)} for one in result.differences
        ],
        "excluded": [_exclusion(one) for one in decision.excluded],
        "shadow": [_exclusion(one) for one in decision.shadow],
        "refused": _refusal(decision),
    }


def _exclusion(one: Exclusion) -> dict[str, Any]:
    return {"target": one.target, "rule": one.rule, "observed": one.observed, "limit": one.limit, "hard": one.hard}


def _refusal(decision: Decision) -> dict[str, Any] | None:
    if not isinstance(decision, Refusal):
        return None
    return {
        "status": decision.status,
        "code": decision.code,
        "rule": decision.rule,
        "message": decision.message,
        "retry": bool(decision.retryable),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, Enum) else value


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        value = {name: rules[0] if len(rules) == 1 else rules for name, rules in value.items()}
    return NOTHING if value in (None, "", (), {}) and value is not False else spelled(value)
