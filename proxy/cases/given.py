"""From plain values to what the router takes: the one way in for cases, command lines and `POST /admin/explain`.

Theory of operation
-------------------
`request` and `observed` read the words; here they are put together, and the first thing that is wrong is raised with
the name of the key in place of a line: these values have come from options or from JSON, not from a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from proxy.cases.funds import read_funds
from proxy.cases.observed import NOW_S, read_rates, read_readings
from proxy.cases.request import Request, facts_of, misfits
from proxy.policy.document import Document, Loc, Place
from proxy.policy.findings import Findings
from proxy.policy.model import Snapshot
from proxy.policy.problem import Mistake
from proxy.policy.shape import shaped
from proxy.routing.facts import Facts
from proxy.routing.readings import Funds, Rates, Readings

NOTHING: Mapping[str, object] = MappingProxyType({})

MAX_DEPTH = 8

_REQUEST = shaped(Request)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The arguments of `Router.decide`. `now` is in seconds on the clock of the readings."""

    facts: Facts
    readings: Readings
    rates: Rates
    now: float
    draw: float
    funds: Funds


def read_given(
    snapshot: Snapshot,
    request: Mapping[str, object],
    readings: Mapping[str, object] = NOTHING,
    rates: Mapping[str, object] = NOTHING,
    budgets: Mapping[str, object] = NOTHING,
) -> Given:
    """What the values mean under the policy of `snapshot`; None stands for a key that is not given.

    Raises `Mistake` with the first thing that is wrong.
    """
    values = _plain({"request": request, "readings": readings, "rates": rates, "budgets": budgets})
    findings = Findings(_located(values))
    asked = _REQUEST(values["request"], ("request",), findings)
    _raise_first(findings)
    for _, mistake in misfits(asked, snapshot):
        raise mistake
    found = given_of(asked, values["readings"], values["rates"], values["budgets"], snapshot, findings)
    _raise_first(findings)
    return found


def given_of(
    request: Request,
    readings: object,
    rates: object,
    budgets: object,
    snapshot: Snapshot,
    findings: Findings,
    around: Loc = (),
) -> Given:
    """A request that fits the policy, with what is read from below `around` beside it; mistakes are noted."""
    facts = facts_of(request, snapshot)
    return Given(
        facts=facts,
        readings=read_readings(readings, snapshot, (*around, "readings"), findings),
        rates=read_rates(rates, snapshot, (*around, "rates"), findings),
        now=NOW_S,
        draw=request.draw or 0.0,
        funds=read_funds(budgets, snapshot, facts.at_s, (*around, "budgets"), findings),
    )


def _plain(value: Any, depth: int = 0) -> Any:
    """The values as a YAML file would have them: no nulls, and one kind of mapping and of list."""
    if depth > MAX_DEPTH:
        raise Mistake("nested too deeply", "a request, readings, rates and budgets need four levels at most")
    if isinstance(value, Mapping):
        return {str(name): _plain(item, depth + 1) for name, item in value.items() if item is not None}
    return [_plain(item, depth + 1) for item in value] if isinstance(value, list | tuple) else value


def _located(values: dict[str, Any]) -> Document:
    """A document without lines: the place of a value is its name, and that of a key is nowhere."""
    document = Document(root=values, values={(): Place("", 0, 0)})

    def note(value: object, loc: Loc) -> None:
        document.keys[loc] = Place("", 0, 0)
        document.values[loc] = Place(".".join(map(str, loc[1:] if loc[0] == "request" else loc)), 0, 0)
        members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for name, item in members:
            note(item, (*loc, name))

    for name, value in values.items():
        note(value, (name,))
    return document


def _raise_first(findings: Findings) -> None:
    for problem in findings.problems:
        where = f"`{problem.path}`: " if problem.path else ""
        raise Mistake(f"{where}{problem.message}", problem.hint)
