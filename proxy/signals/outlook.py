"""What is expected of a request before it is sent: how long its answer gets, and what each replica has of its prompt.

Theory of operation
-------------------
Joins what was learned from requests that went before: the lengths of answers (`answer_lengths.py`); for each dedicated
target the beginnings of prompts that its replicas have read (`prefix_index.py`), believed as far as the target has
proved them right (`hit_trust.py`); where a session's last prompt went (`sessions.py`), which counts as read by that
replica when no block tells; and what its engines' time is worth while there is too little of it (`bid.py`). The time is
an argument, so that a replay expects what serving would have expected.

State belongs to a target's name and its replicas' URLs, and outlives the policy that named them.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

import msgspec

from proxy.policy.model import Candidate, Lane, Target
from proxy.routing.facts import Facts
from proxy.routing.outcome import Failure, Outcome
from proxy.routing.plan import Attempt
from proxy.routing.readings import NO_OUTLOOK, Outlook, Readings
from proxy.routing.wanted import Wanted
from proxy.signals.answer_lengths import AnswerLengths
from proxy.signals.bid import BidPrice, capacity
from proxy.signals.hit_trust import HitTrust
from proxy.signals.prefix_index import BLOCK_TOKENS, NO_HITS, TTL_S, Hits, PrefixIndex
from proxy.signals.sessions import Sessions

MOST_BLOCKS = 131_072
"""Of all replicas of all targets together: no more than 42 MB at `prefix_index.BLOCK_BYTES`."""
NO_READINGS: Readings = {}
LEAST_TRUST = 0.05
"""Below that, a target is taken to cache nothing."""


class Sent(msgspec.Struct, frozen=True, gc=False):
    """An attempt on a dedicated replica, which should have `assumed_tokens` of the prompt in its cache."""

    url: str
    assumed_tokens: int


class Known:
    """Of one dedicated target: its replicas' caches, how far to believe in them, and what its time is worth.

    `itl_aim_s` is the gap between tokens that was last wanted of it.
    """

    __slots__ = ("bid", "index", "itl_aim_s", "trust")

    def __init__(self, index: PrefixIndex) -> None:
        self.index = index
        self.trust = HitTrust()
        self.bid: BidPrice | None = None
        self.itl_aim_s = inf

    def stands_for(self, target: Target) -> bool:
        """Whether the target has the replicas that are known: a policy of before, or the next, may have others."""
        urls = target.addresses
        return urls is self.index.urls or urls == self.index.urls

    def hits(self, prefix: tuple[int, ...], now: float) -> Hits:
        """What each replica is expected to have of a prompt, in tokens."""
        share = self.trust.share
        if share < LEAST_TRUST:
            return NO_HITS
        found = self.index.hits(prefix, now)
        return found if share == 1.0 else tuple([int(share * tokens) for tokens in found])


class OutlookBook:
    """All that later requests are expected by. `block_tokens` is what each number of `Facts.prefix` stands for."""

    __slots__ = ("_block_tokens", "_known", "_sessions", "lengths")

    def __init__(self, targets: Iterable[Target], *, block_tokens: int = BLOCK_TOKENS) -> None:
        self.lengths = AnswerLengths()
        self._block_tokens = block_tokens
        self._known: dict[str, Known] = {}
        self._sessions = Sessions(TTL_S)
        self.adopt(targets)

    def __len__(self) -> int:
        """How many blocks are kept, of all replicas together."""
        return sum([len(known.index) for known in self._known.values()])

    def adopt(self, targets: Iterable[Target]) -> None:
        """Follow a new policy: what is known of replicas that are still there stays."""
        dedicated = [target for target in targets if target.lane is Lane.DEDICATED]
        most_blocks = MOST_BLOCKS // max(1, sum([target.replicas for target in dedicated]))
        before, self._known = self._known, {}
        for target in dedicated:
            capacity_tokens = None if target.profile is None else target.profile.kv_tokens
            known = before.get(target.name)
            if known is None:
                index = PrefixIndex(target.addresses, capacity_tokens, most_blocks, block_tokens=self._block_tokens)
                known = Known(index)
            else:
                known.index.follow(target.addresses, capacity_tokens, most_blocks)
            self._known[target.name] = known

    def outlook(
        self, facts: Facts, candidates: tuple[Candidate, ...], now: float, readings: Readings = NO_READINGS
    ) -> Outlook:
        """What is expected of a request that may be sent to any of `candidates`; without readings there is no bid."""
        output_tokens = self.lengths.expected(facts)
        hits: dict[str, Hits] = {}
        bid = inf
        for candidate in candidates:
            target = candidate.target
            known = self._known.get(target.name)
            if known is None or not known.stands_for(target):
                continue
            bid = min(bid, self._bid(known, target, readings, now))
            if facts.prefix:
                found = known.hits(facts.prefix, now)
                if found:
                    hits[target.name] = found
        if facts.session is not None and not hits:
            hits = self._hits_of_session(facts, candidates, now)
        if bid == inf:
            bid = 0.0
        if output_tokens is None and not hits and not bid:
            return NO_OUTLOOK
        return Outlook(output_tokens=output_tokens, hits=hits, bid_nano_usd_per_s=bid)

    def sent(self, attempt: Attempt, facts: Facts, now: float) -> Sent | None:
        """An attempt starts; what this returns is wanted back by `done`."""
        target = attempt.target
        known = self._known.get(target.name)
        if known is None:
            return None
        url = target.addresses[attempt.replica]
        place = known.index.place(url)
        if place is None:
            return None
        if facts.session is not None:
            self._sessions.note(facts, target.name, url, now)
        return Sent(url, known.index.note(place, facts.prefix, facts.input_tokens, now))

    def done(self, sent: Sent | None, facts: Facts, outcome: Outcome, now: float) -> None:
        """The attempt that `sent` was returned for has ended."""
        succeeded, output_tokens = outcome.failure is None, outcome.usage.output_tokens
        if succeeded:
            self.lengths.feed(facts, output_tokens)
        known = None if sent is None else self._known.get(outcome.attempt.target.name)
        if sent is None or known is None:
            return
        place = known.index.place(sent.url)
        if place is None:
            return
        if outcome.failure is Failure.CONNECT:
            # Nobody is there: whoever will be has read nothing yet.
            known.index.clear(place)
            return
        known.index.fill(place, output_tokens, now)
        if succeeded:
            known.trust.judge(sent.assumed_tokens, outcome)

    def wanted(self, wanted: Wanted, now: float) -> None:
        """A request asks for engine time, whether or not it gets any."""
        known = self._known.get(wanted.target)
        if known is None:
            return
        if known.bid is None:
            known.bid = BidPrice()
        known.bid.want(wanted.density_nano_usd_per_s, wanted.work_s, now)
        known.itl_aim_s = wanted.itl_aim_s

    def forget(self, target: str, replica: int) -> None:
        """A replica is known to have begun anew."""
        known = self._known.get(target)
        if known is not None and replica < len(known.index.urls):
            known.index.clear(replica)

    def _bid(self, known: Known, target: Target, readings: Readings, now: float) -> float:
        bid = known.bid
        if bid is None:
            return 0.0
        if now >= bid.good_until:
            loads = [reading.load for reading in readings.get(target.name, ()) if reading.load is not None]
            samples = min([load.samples for load in loads], default=0) if len(loads) == target.replicas else 0
            bid.make_out(now, capacity(target, loads, known.itl_aim_s), samples)
        return bid.nano_usd_per_s

    def _hits_of_session(self, facts: Facts, candidates: tuple[Candidate, ...], now: float) -> dict[str, Hits]:
        visit = self._sessions.last(facts, now)
        known = None if visit is None else self._known.get(visit.target)
        if visit is None or known is None or known.trust.share < LEAST_TRUST:
            return {}
        tokens = int(known.trust.share * min(visit.input_tokens, facts.input_tokens))
        for candidate in candidates:
            urls = candidate.target.addresses
            if candidate.target.name == visit.target and visit.url in urls:
                return {visit.target: tuple([tokens if url == visit.url else 0 for url in urls])}
        return {}
