"""A contrast in words and as JSON values. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from proxy.cases.compare import View
from proxy.cases.contrast import CHANGES, WHOSE, Contrast, Example, Group, Spread, lane_of
from proxy.cases.request import DEFAULT_AT_S, DEFAULT_INPUT_TOKENS, Request
from proxy.policy.model import ANONYMOUS, Endpoint, Traffic

SHOWN = 8
"""Groups under one heading; the rest are counted."""

MAX_TERMS = 40
"""Statements that are listed; the rest are counted."""

_WIDER = {
    "region": "region `{}`",
    "retention": "targets that keep prompts ({})",
    "training": "targets that may train on prompts (training: {})",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What the policies were compared over: `requests` says which, `states` in which situations."""

    before: str
    after: str
    requests: str
    states: tuple[str, ...]


def told(found: Contrast, basis: Basis) -> Iterator[str]:
    """The contrast line by line, what may go where it might not before everything else."""
    yield f"{basis.before} -> {basis.after}"
    yield f"{basis.requests}, decided with {' and with '.join(basis.states)}"
    if not found.differs:
        yield "no change"
        return
    yield from _widenings(found)
    yield f"{found.changed:,} of {found.decisions:,} decisions change ({found.changed / found.decisions:.1%})"
    for heading in (*CHANGES, *WHOSE):
        yield from _groups(heading, found.groups[heading])
    yield from _money(found)
    yield from _terms(found)


def described(request: Request) -> str:
    """A request in a few words: only what is not usual about it."""
    parts = [f"model {request.model}"]
    if request.key:
        parts.append(f"key {request.key}")
    elif request.tenant:
        parts.append(f"tenant {request.tenant}")
    parts += [f"tags {' '.join(request.tags)}"] if request.tags else []
    parts += [str(request.endpoint)] if request.endpoint not in (None, Endpoint.CHAT) else []
    parts += [str(request.traffic)] if request.traffic not in (None, Traffic.ONLINE) else []
    parts += ["streamed"] if request.stream else []
    parts += [f"with {' '.join(request.modality)}"] if request.modality else []
    parts += ["with tools"] if request.tools else []
    if request.input_tokens not in (None, DEFAULT_INPUT_TOKENS):
        parts.append(f"{request.input_tokens:,} input tokens")
    parts += [f"lane {request.lane}"] if request.lane else []
    parts += [f"target {request.target}"] if request.target else []
    if request.at not in (None, DEFAULT_AT_S):
        parts.append(f"{datetime.fromtimestamp(request.at or 0.0, UTC):%a %Y-%m-%d %H:%M} UTC")
    return ", ".join(parts)


def counted(count: int, thing: str) -> str:
    """`1 request`, `1,200 requests`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def outcome(view: View) -> str:
    """What becomes of it in a few words."""
    return view.refused or f"{', '.join(view.targets)} by {view.route}"


def as_json(found: Contrast, basis: Basis) -> dict[str, Any]:
    """The contrast as values that JSON has."""
    money = found.money
    return {
        "before": basis.before,
        "after": basis.after,
        "states": list(basis.states),
        "requests": found.requests,
        "decisions": found.decisions,
        "changed": found.changed,
        "widened": found.widened,
        "widenings": [_spread(one) for one in _largest(found.spreads.values())],
        "changes": {name: _listed(found.groups[name]) for name in CHANGES},
        "summary": {name.removeprefix("by "): _listed(found.groups[name]) for name in WHOSE},
        "terms": [
            {"subject": one.subject, "term": one.term, "before": one.before, "after": one.after} for one in found.terms
        ],
        "cost": {
            "decisions": money.decisions,
            "before_nano_usd": money.before_nano_usd,
            "after_nano_usd": money.after_nano_usd,
            "unpriced": money.unpriced,
        },
    }


def _widenings(found: Contrast) -> Iterator[str]:
    if not found.spreads:
        return
    yield f"WIDENS: {counted(found.widened, 'request')} may go where they could not before"
    for spread in _largest(found.spreads.values())[:SHOWN]:
        news = _WIDER[spread.kind].format(spread.value)
        targets = ", ".join(f"`{name}`" for name in sorted(spread.targets))
        route = f" on route {spread.route}" if spread.route else ""
        whose = "" if spread.tenant == ANONYMOUS.name else f" of tenant {spread.tenant}"
        yield f"  ! {news}: {counted(spread.count, 'request')}{whose}{route} may reach {targets}"
        yield f"      e.g. {described(spread.example)}"
    yield from _rest(len(found.spreads))


def _groups(heading: str, groups: Mapping[str, Group]) -> Iterator[str]:
    if not groups:
        return
    yield heading
    width = max(len(f"{group.count:,}") for group in groups.values())
    for words, group in sorted(groups.items(), key=lambda one: -one[1].count)[:SHOWN]:
        example = group.example
        yield f"  {group.count:>{width},}  {words}"
        yield f"  {'':>{width}}  e.g. {_told_example(example)}"
    yield from _rest(len(groups))


def _told_example(example: Example) -> str:
    then, now = outcome(example.before), outcome(example.after)
    return f"{described(example.request)} ({example.state}): {then} -> {now}"


def _rest(count: int) -> Iterator[str]:
    if count > SHOWN:
        yield f"  and {count - SHOWN} more"


def _money(found: Contrast) -> Iterator[str]:
    money = found.money
    if money.before_nano_usd == money.after_nano_usd:
        return
    unpriced = f"; {money.unpriced:,} more have no known price" if money.unpriced else ""
    yield (
        f"estimated cost of first targets: {_usd(money.before_nano_usd)} -> {_usd(money.after_nano_usd)}"
        f" over {money.decisions:,} decisions{unpriced}"
    )


def _terms(found: Contrast) -> Iterator[str]:
    if found.terms:
        yield "stated differently"
        yield from (f"  {one}" for one in found.terms[:MAX_TERMS])
        if len(found.terms) > MAX_TERMS:
            yield f"  and {len(found.terms) - MAX_TERMS} more"


def _usd(nano_usd: int) -> str:
    return f"${nano_usd / 1e9:,.2f}" if nano_usd >= 1e9 else f"${nano_usd / 1e9:.6f}".rstrip("0").rstrip(".")


def _largest(spreads: Iterable[Spread]) -> list[Spread]:
    return sorted(spreads, key=lambda one: (-one.count, one.kind, one.value, one.tenant, one.route))


def _spread(one: Spread) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "value": one.value,
        "tenant": one.tenant,
        "route": one.route,
        "targets": sorted(one.targets),
        "requests": one.count,
        "example": _request(one.example),
    }


def _listed(groups: Mapping[str, Group]) -> list[dict[str, Any]]:
    return [
        {"what": words, "decisions": group.count, "example": _example(group.example)}
        for words, group in sorted(groups.items(), key=lambda one: -one[1].count)
    ]


def _example(example: Example) -> dict[str, Any]:
    return {
        "request": _request(example.request),
        "state": example.state,
        "before": _view(example.before),
        "after": _view(example.after),
    }


def _view(view: View) -> dict[str, Any]:
    return {
        "route": view.route,
        "refused": view.refused,
        "targets": list(view.targets),
        "lane": lane_of(view),
        "nano_usd": view.nano_usd,
    }


def _request(request: Request) -> dict[str, Any]:
    """In the words of a case, with what is not stated left out."""
    told = {one.name: getattr(request, one.name) for one in fields(request)}
    told["at"] = None if request.at is None else datetime.fromtimestamp(request.at, UTC).isoformat()
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in told.items()
        if value is not None and value != ()
    }
