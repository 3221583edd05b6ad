"""What is expected of a request before it is sent: how long its answer gets, and what each replica has of its prompt.

Theory of operation
-------------------
Joins what was learned from requests that went before: the lengths of answers (`answer_lengths.py`); for each dedicated
target the beginnings of prompts that its replicas have read (`prefix_index.py`), believed as far as the target has
proved them right (`hit_trust.py`); and where a session's last prompt went (`sessions.py`), which counts as read by that
replica when no block tells. The time is an argument, so that a replay expects what serving would have expected.

State belongs to a target's name and its replicas' URLs, and outlives the policy that named them.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from proxy.policy.model import Candidate, Lane, Target
from proxy.routing.facts import Facts
from proxy.routing.outcome import Failure, Outcome
from proxy.routing.plan import Attempt
from proxy.routing.readings import NO_OUTLOOK, Outlook
from proxy.signals.answer_lengths import AnswerLengths
from proxy.signals.hit_trust import HitTrust
from proxy.signals.prefix_index import BLOCK_TOKENS, NO_HITS, TTL_S, Hits, PrefixIndex
from proxy.signals.sessions import Sessions

MOST_BLOCKS = 131_072
"""Of all replicas of all targets together: no more than 42 MB at `prefix_index.BLOCK_BYTES`."""
LEAST_TRUST = 0.05
"""Below that, a target is taken to cache nothing."""


class Sent(msgspec.Struct, frozen=True, gc=False):
    """An attempt on a dedicated replica, which should have `assumed_tokens` of the prompt in its cache."""

    url: str
    assumed_tokens: int


class Caches:
    """Of one dedicated target's replicas, and how far to believe in them."""

    __slots__ = ("index", "trust")

    def __init__(self, index: PrefixIndex) -> None:
        self.index = index
        self.trust = HitTrust()

    def hits(self, prefix: tuple[int, ...], now: float) -> Hits:
        """What each replica is expected to have of a prompt, in tokens."""
        share = self.trust.share
        if share < LEAST_TRUST:
            return NO_HITS
        found = self.index.hits(prefix, now)
        return found if share == 1.0 else tuple([int(share * tokens) for tokens in found])


class OutlookBook:
    """All that later requests are expected by. `block_tokens` is what each number of `Facts.prefix` stands for."""

    __slots__ = ("_block_tokens", "_caches", "_sessions", "lengths")

    def __init__(self, targets: Iterable[Target], *, block_tokens: int = BLOCK_TOKENS) -> None:
        self.lengths = AnswerLengths()
        self._block_tokens = block_tokens
        self._caches: dict[str, Caches] = {}
        self._sessions = Sessions(TTL_S)
        self.adopt(targets)

    def __len__(self) -> int:
        """How many blocks are kept, of all replicas together."""
        return sum([len(caches.index) for caches in self._caches.values()])

    def adopt(self, targets: Iterable[Target]) -> None:
        """Follow a new policy: what is known of replicas that are still there stays."""
        dedicated = [target for target in targets if target.lane is Lane.DEDICATED]
        most_blocks = MOST_BLOCKS // max(1, sum([target.replicas for target in dedicated]))
        before, self._caches = self._caches, {}
        for target in dedicated:
            capacity_tokens = None if target.profile is None else target.profile.kv_tokens
            caches = before.get(target.name)
            if caches is None:
                index = PrefixIndex(_urls(target), capacity_tokens, most_blocks, block_tokens=self._block_tokens)
                caches = Caches(index)
            else:
                caches.index.follow(_urls(target), capacity_tokens, most_blocks)
            self._caches[target.name] = caches

    def outlook(self, facts: Facts, candidates: tuple[Candidate, ...], now: float) -> Outlook:
        """What is expected of a request that may be sent to any of `candidates`."""
        output_tokens = self.lengths.expected(facts)
        hits: dict[str, Hits] = {}
        if facts.prefix:
            for candidate in candidates:
                target = candidate.target
                caches = self._caches.get(target.name)
                # A policy of before, or of the next moment, may count the replicas otherwise.
                if caches is not None and caches.index.urls == _urls(target):
                    found = caches.hits(facts.prefix, now)
                    if found:
                        hits[target.name] = found
        if facts.session is not None and not hits:
            hits = self._hits_of_session(facts, candidates, now)
        if output_tokens is None and not hits:
            return NO_OUTLOOK
        return Outlook(output_tokens=output_tokens, hits=hits)

    def sent(self, attempt: Attempt, facts: Facts, now: float) -> Sent | None:
        """An attempt starts; what this returns is wanted back by `done`."""
        target = attempt.target
        caches = self._caches.get(target.name)
        if caches is None:
            return None
        url = _urls(target)[attempt.replica]
        place = caches.index.place(url)
        if place is None:
            return None
        if facts.session is not None:
            self._sessions.note(facts, target.name, url, now)
        return Sent(url, caches.index.note(place, facts.prefix, facts.input_tokens, now))

    def done(self, sent: Sent | None, facts: Facts, outcome: Outcome, now: float) -> None:
        """The attempt that `sent` was returned for has ended."""
        succeeded, output_tokens = outcome.failure is None, outcome.usage.output_tokens
        if succeeded:
            self.lengths.feed(facts, output_tokens)
        caches = None if sent is None else self._caches.get(outcome.attempt.target.name)
        if sent is None or caches is None:
            return
        place = caches.index.place(sent.url)
        if place is None:
            return
        if outcome.failure is Failure.CONNECT:
            # Nobody is there: whoever will be has read nothing yet.
            caches.index.clear(place)
            return
        caches.index.fill(place, output_tokens, now)
        if succeeded:
            caches.trust.judge(sent.assumed_tokens, outcome)

    def forget(self, target: str, replica: int) -> None:
        """A replica is known to have begun anew."""
        caches = self._caches.get(target)
        if caches is not None and replica < len(caches.index.urls):
            caches.index.clear(replica)

    def _hits_of_session(self, facts: Facts, candidates: tuple[Candidate, ...], now: float) -> dict[str, Hits]:
        visit = self._sessions.last(facts, now)
        caches = None if visit is None else self._caches.get(visit.target)
        if visit is None or caches is None or caches.trust.share < LEAST_TRUST:
            return {}
        tokens = int(caches.trust.share * min(visit.input_tokens, facts.input_tokens))
        for candidate in candidates:
            urls = _urls(candidate.target)
            if candidate.target.name == visit.target and visit.url in urls:
                return {visit.target: tuple([tokens if url == visit.url else 0 for url in urls])}
        return {}


def _urls(target: Target) -> tuple[str, ...]:
    """A target that is reached without a URL still has one replica."""
    return target.urls or ("",)
