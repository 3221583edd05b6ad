"""Which replica read the last prompt of each session that callers name: a hint where there are no blocks to go by.

Theory of operation
-------------------
A conversation's next prompt begins with its last one. Prompts of a block or more show that by their blocks, so only
shorter ones, and those that were not hashed, are remembered here. Names belong to the tenant that gives them. Those
used longest ago are forgotten first, and all after `ttl_s`.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from proxy.routing.facts import Facts

MOST_SESSIONS = 16_384


class Visit(msgspec.Struct, frozen=True, gc=False):
    """Where a session's last prompt went, and how long it was."""

    target: str
    url: str
    input_tokens: int
    at: float


class Sessions:
    """The last visit of each session."""

    __slots__ = ("_ttl_s", "_visits")

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._visits: OrderedDict[tuple[str, str, str], Visit] = OrderedDict()

    def __len__(self) -> int:
        """How many sessions are known."""
        return len(self._visits)

    def last(self, facts: Facts, now: float) -> Visit | None:
        """The session's last visit with the same model, if it is not too long ago."""
        visit = None if facts.session is None else self._visits.get((facts.tenant.name, facts.model, facts.session))
        return None if visit is None or now - visit.at >= self._ttl_s else visit

    def note(self, facts: Facts, target: str, url: str, now: float) -> None:
        """A prompt of the session was sent to a replica."""
        if facts.session is None:
            return
        name = (facts.tenant.name, facts.model, facts.session)
        if facts.prefix:
            self._visits.pop(name, None)
            return
        self._visits[name] = Visit(target, url, facts.input_tokens, now)
        self._visits.move_to_end(name)
        if len(self._visits) > MOST_SESSIONS:
            self._visits.popitem(last=False)
