"""What a route's `match` asks for in words, and the first thing in it that a request does not have.

Theory of operation
-------------------
Whether a condition holds is never judged here: a match that asks for that one thing alone is put to the function that
the router itself uses. Here are only the words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from proxy.policy.model import Match, Modality, Schedule
from proxy.routing.facts import Facts
from proxy.routing.table import Row, applies

_EVERYTHING = Match()
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_EVERY_DAY = frozenset(range(7))


def stated(match: Match) -> tuple[str, ...]:
    """Each condition in words, none when everything matches."""
    return tuple(needs(getattr(match, name)) for name, (needs, _) in _WORDS.items() if _asks(match, name))


def unmet(match: Match, row: Row | None, facts: Facts) -> tuple[str, str] | None:
    """The first condition that does not hold, and what the request has instead; None when all of them hold.

    `row` is the route's row for the request's model, None when the route is not for that model.
    """
    if row is None:
        needs, has = _WORDS["models"]
        return needs(match.models), has(facts, match)
    for name, (needs, has) in _WORDS.items():
        if not _asks(match, name):
            continue
        alone = replace(_EVERYTHING, **{name: getattr(match, name)})
        if not applies(replace(row, match=alone, particular=True), facts):
            return needs(getattr(match, name)), has(facts, match)
    return None


def _asks(match: Match, name: str) -> bool:
    return bool(getattr(match, name) != getattr(_EVERYTHING, name))


def _any_of(what: str) -> Callable[[frozenset[str]], str]:
    def words(names: frozenset[str]) -> str:
        return f"{what} {' or '.join(f'`{name}`' for name in sorted(names))}"

    return words


def _tags(tags: frozenset[str]) -> str:
    return f"{'tag' if len(tags) == 1 else 'the tags'} {' and '.join(f'`{tag}`' for tag in sorted(tags))}"


def _own_tags(facts: Facts, match: Match) -> str:
    tags = facts.tags | facts.tenant.tags
    return f"the request has {_tags(tags)}" if tags else "the request has none"


def _own_key(facts: Facts, match: Match) -> str:
    return f"the request came with `{facts.key.name}`" if facts.key.name else "the request's key has no name"


def _modalities(modalities: frozenset[Modality]) -> str:
    if modalities == {Modality.TEXT}:
        return "a prompt of nothing but text"
    return f"{' or '.join(sorted(modalities))} in the prompt"


def _own_modalities(facts: Facts, match: Match) -> str:
    return f"the prompt has {' and '.join(sorted(facts.modalities))}" if facts.modalities else "it is text only"


def _schedule(schedule: Schedule) -> str:
    days = "" if schedule.days == _EVERY_DAY else " ".join(_DAYS[day] for day in sorted(schedule.days)) + " "
    return f"the time {days}{_clock(schedule.from_minute)}-{_clock(schedule.to_minute)} ({schedule.zone})"


def _own_time(facts: Facts, match: Match) -> str:
    assert match.schedule is not None
    local = datetime.fromtimestamp(facts.at_s, match.schedule.zone)
    return f"it is {_DAYS[local.weekday()]} {local:%H:%M} there"


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


_WORDS: Mapping[str, tuple[Callable[[Any], str], Callable[[Facts, Match], str]]] = {
    "models": (_any_of("model"), lambda facts, _: f"the request is for `{facts.model}`"),
    "endpoints": (_any_of("endpoint"), lambda facts, _: f"the request came to `{facts.endpoint}`"),
    "tenants": (_any_of("tenant"), lambda facts, _: f"the caller is `{facts.tenant.name}`"),
    "keys": (_any_of("key"), _own_key),
    "tags": (_tags, _own_tags),
    "traffic": (lambda traffic: f"`{traffic}` traffic", lambda facts, _: f"the request is `{facts.traffic}`"),
    "stream": (
        lambda stream: "a streamed reply" if stream else "a reply in one piece",
        lambda facts, _: "the request asks for a stream" if facts.stream else "the request does not ask for a stream",
    ),
    "modalities": (_modalities, _own_modalities),
    "tools": (
        lambda tools: "tools" if tools else "no tools",
        lambda facts, _: "the request has some" if facts.tools else "the request has none",
    ),
    "min_input_tokens": (
        lambda least: f"at least {least:,} input tokens",
        lambda facts, _: f"the request has about {facts.input_tokens:,}",
    ),
    "max_input_tokens": (
        lambda most: f"at most {most:,} input tokens",
        lambda facts, _: f"the request has about {facts.input_tokens:,}",
    ),
    "schedule": (_schedule, _own_time),
}
"""By field of `Match`, in its order: what it asks for, and what a request has instead."""
