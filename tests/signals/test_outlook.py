"""What is expected of a request follows from those before it, across policies, and never from what went elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest
from proxy.policy.discovery import DnsService
from proxy.policy.engine_profile import ASSUMED
from proxy.policy.model import Candidate, Target
from proxy.routing.facts import Facts
from proxy.routing.outcome import Failure, Usage
from proxy.routing.readings import NO_OUTLOOK, Load, Reading, Readings
from proxy.routing.wanted import Wanted
from proxy.signals.outlook import MOST_BLOCKS, OutlookBook, Sent
from proxy.signals.prefix_index import BLOCK_TOKENS, TTL_S
from tests.routing.policies import dedicated, facts, shared
from tests.signals.attempts import attempt, outcome

T0 = 5000.0
EU = dedicated("llama-eu", replicas=2, profile=ASSUMED)
US = dedicated("llama-us", replicas=1, profile=ASSUMED)
API = shared()
TARGETS = (EU, US, API)


def candidates(*targets: Target) -> tuple[Candidate, ...]:
    return tuple(Candidate(target=target, model="m") for target in targets)


def asked(*prefix: int, session: str | None = None) -> Facts:
    return facts(prefix=prefix, input_tokens=len(prefix) * BLOCK_TOKENS + 100, session=session)


def send(book: OutlookBook, target: Target, request: Facts, replica: int = 0, at: float = T0) -> Sent | None:
    return book.sent(attempt(target, replica), request, at)


def test_nothing_is_expected_where_nothing_is_known() -> None:
    assert OutlookBook(TARGETS).outlook(asked(1, 2), candidates(*TARGETS), T0) is NO_OUTLOOK


def test_replicas_have_what_they_were_sent() -> None:
    book = OutlookBook(TARGETS)
    send(book, EU, asked(1, 2, 3), replica=1)
    send(book, US, asked(1))
    send(book, API, asked(1, 2))
    outlook = book.outlook(asked(1, 2, 4), candidates(*TARGETS), T0)
    assert outlook.hits == {"llama-eu": (0, 2 * BLOCK_TOKENS), "llama-us": (BLOCK_TOKENS,)}
    assert book.outlook(asked(1, 2, 4), candidates(US, API), T0).hits == {"llama-us": (BLOCK_TOKENS,)}
    assert book.outlook(asked(1, 2, 4), candidates(API), T0) is NO_OUTLOOK


def test_blocks_may_be_of_another_size() -> None:
    book = OutlookBook(TARGETS, block_tokens=16)
    send(book, US, asked(1, 2))
    assert book.outlook(asked(1, 2), candidates(US), T0).hits == {"llama-us": (32,)}


def test_answers_get_as_long_as_they_did() -> None:
    book = OutlookBook(TARGETS)
    request = asked()
    for target in (EU, API):
        ended = outcome(attempt(target), usage=Usage(input_tokens=100, output_tokens=40))
        book.done(send(book, target, request), request, ended, T0)
    cut = outcome(attempt(EU), Failure.CLIENT_LEFT, usage=Usage(input_tokens=100, output_tokens=3))
    book.done(send(book, EU, request), request, cut, T0)
    assert book.outlook(request, candidates(*TARGETS), T0).output_tokens == pytest.approx(40.0)
    assert book.outlook(facts(model="other"), candidates(*TARGETS), T0) is NO_OUTLOOK


def test_answers_take_the_room_of_prompts() -> None:
    book = OutlookBook(TARGETS)
    request = asked(1)
    sent = send(book, US, request)
    assert ASSUMED.kv_tokens is not None
    long = outcome(attempt(US), usage=Usage(output_tokens=ASSUMED.kv_tokens))
    book.done(sent, request, long, T0)
    assert not book.outlook(request, candidates(US), T0).hits


def test_what_is_assumed_is_cut_to_what_proves_right() -> None:
    book = OutlookBook(TARGETS)
    request = asked(*range(8))
    for _ in range(500):
        half = Usage(input_tokens=4196, cached_input_tokens=2048, output_tokens=10)
        book.done(send(book, US, request), request, outcome(attempt(US), usage=half), T0)
    (tokens,) = book.outlook(request, candidates(US), T0).hits["llama-us"]
    assert tokens == pytest.approx(2048, rel=0.03)
    for _ in range(500):
        none = Usage(input_tokens=4196, output_tokens=10)
        book.done(send(book, US, request), request, outcome(attempt(US), usage=none), T0)
    assert not book.outlook(request, candidates(US), T0).hits


def test_a_replica_that_is_gone_has_nothing_when_it_comes_back() -> None:
    book = OutlookBook(TARGETS)
    request = asked(1, 2)
    for replica in (0, 1):
        sent = send(book, EU, request, replica)
    book.done(sent, request, outcome(attempt(EU, 1), Failure.CONNECT), T0)
    assert book.outlook(request, candidates(EU), T0).hits == {"llama-eu": (2 * BLOCK_TOKENS, 0)}
    book.forget("llama-eu", 0)
    book.forget("llama-eu", 7)
    book.forget("nobody", 0)
    assert not book.outlook(request, candidates(EU), T0).hits


class TestSessions:
    """Where a session goes on, when there are no blocks to tell."""

    def test_a_short_prompt_goes_on_where_the_last_one_was(self) -> None:
        book = OutlookBook(TARGETS)
        send(book, EU, asked(session="s"), replica=1)
        longer = asked(1, session="s")
        assert book.outlook(longer, candidates(US, EU), T0).hits == {"llama-eu": (0, 100)}
        assert book.outlook(longer, candidates(US), T0) is NO_OUTLOOK
        assert book.outlook(asked(session="t"), candidates(EU), T0) is NO_OUTLOOK
        assert book.outlook(longer, candidates(EU), T0 + TTL_S) is NO_OUTLOOK

    def test_blocks_say_more(self) -> None:
        book = OutlookBook(TARGETS)
        send(book, EU, asked(session="s"), replica=1)
        send(book, EU, asked(1, session="other"), replica=0)
        assert book.outlook(asked(1, session="s"), candidates(EU), T0).hits == {"llama-eu": (BLOCK_TOKENS, 0)}
        send(book, EU, asked(1, session="s"), replica=0)
        assert book.outlook(asked(session="s"), candidates(EU), T0) is NO_OUTLOOK

    def test_a_target_that_caches_nothing_is_no_place_to_go_back_to(self) -> None:
        book = OutlookBook(TARGETS)
        request = asked(1, 2)
        told = Usage(cached_input_tokens=1)
        for _ in range(500):
            book.done(send(book, US, request), request, outcome(attempt(US), usage=told), T0)
        send(book, US, asked(session="s"))
        assert not book.outlook(asked(session="s"), candidates(US), T0).hits


class TestBid:
    """The bid is made out of what was wanted, when every replica is known."""

    @staticmethod
    def _wanting(book: OutlookBook, *targets: Target) -> None:
        for tick in range(1200):
            for target in targets:
                for density in (1e7, 5e7):
                    book.wanted(Wanted(target.name, density, 0.1, 0.05), T0 + tick / 20)

    @staticmethod
    def _readings(target: Target, *samples: int) -> Readings:
        loads = [Load(samples=count) for count in samples]
        return {target.name: tuple(Reading(target=target.name, replica=0, as_of=T0, load=load) for load in loads)}

    def test_it_needs_all_replicas_to_be_known(self) -> None:
        for samples, bids in (((500, 500), True), ((500, 499), False), ((500,), False)):
            book = OutlookBook(TARGETS)
            self._wanting(book, EU)
            outlook = book.outlook(asked(), candidates(EU, API), T0 + 60, self._readings(EU, *samples))
            assert (1e7 < outlook.bid_nano_usd_per_s <= 5.5e7) is bids

    def test_it_is_the_lowest_of_the_targets_that_could_serve(self) -> None:
        book = OutlookBook(TARGETS)
        self._wanting(book, EU)
        readings = self._readings(EU, 500, 500)
        assert book.outlook(asked(), candidates(EU, API), T0 + 60, readings).bid_nano_usd_per_s > 0
        assert book.outlook(asked(), candidates(EU, US, API), T0 + 60, readings) is NO_OUTLOOK
        assert book.outlook(asked(), candidates(API), T0 + 60, readings) is NO_OUTLOOK

    def test_a_target_of_which_nothing_runs_has_none(self) -> None:
        book = OutlookBook(TARGETS)
        self._wanting(book, EU)
        asleep = replace(EU, urls=(), discovery=DnsService(host="llama.svc", port=8000))
        assert book.outlook(asked(), candidates(asleep, API), T0 + 60, {EU.name: ()}) is NO_OUTLOOK

    def test_nobody_bids_for_what_is_not_there(self) -> None:
        book = OutlookBook((EU,))
        self._wanting(book, US)
        assert book.outlook(asked(), candidates(EU, US), T0 + 60, self._readings(EU, 500, 500)) is NO_OUTLOOK


class TestReload:
    """A policy changes while requests are on their way."""

    def test_replicas_are_known_by_their_urls(self) -> None:
        book = OutlookBook(TARGETS)
        request = asked(1, 2)
        send(book, EU, request, replica=1)
        alone = replace(EU, urls=(EU.urls[1],))
        sent = send(book, EU, request, replica=0)
        book.adopt([alone])
        assert book.outlook(request, candidates(alone), T0).hits == {"llama-eu": (2 * BLOCK_TOKENS,)}
        assert not book.outlook(request, candidates(EU), T0).hits
        usage = Usage(output_tokens=10**9)
        book.done(sent, request, outcome(attempt(EU), usage=usage), T0)
        assert book.outlook(request, candidates(alone), T0).hits == {"llama-eu": (2 * BLOCK_TOKENS,)}
        assert send(book, EU, request, replica=0) is None
        again = send(book, EU, asked(3), replica=1)
        assert book.outlook(asked(3), candidates(alone), T0).hits == {"llama-eu": (BLOCK_TOKENS,)}
        book.done(again, asked(3), outcome(attempt(EU, 1), usage=usage), T0)
        assert not book.outlook(request, candidates(alone), T0).hits

    def test_a_target_that_left_is_forgotten(self) -> None:
        book = OutlookBook(TARGETS)
        sent = send(book, US, asked(1))
        book.adopt([EU])
        assert send(book, US, asked(1)) is None
        book.done(sent, asked(1), outcome(attempt(US)), T0)
        book.adopt(TARGETS)
        assert not book.outlook(asked(1), candidates(US), T0).hits


def test_all_replicas_share_one_bound() -> None:
    many = [dedicated(f"pool-{number}", replicas=256) for number in range(4)]
    book = OutlookBook(many)
    request = facts(input_tokens=10**6)
    for target in many:
        for replica in range(256):
            book.done(send(book, target, request, replica), request, outcome(attempt(target, replica)), T0)
    assert len(book) == MOST_BLOCKS
