"""A sliding minute per scope: nothing is counted twice, nothing for ever, and no minute holds more than is counted."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from proxy.routing.readings import Rate
from proxy.signals.inflight import OTHERS_BELIEVED_S
from proxy.signals.rates import SLICES, UNKNOWN_FREES_IN_S, Admission, RateBook

T0 = 5000.0
BANK = "tenant:bank"
CI = "key:bank/ci"


def test_a_request_counts_in_all_of_its_scopes_until_a_minute_has_passed() -> None:
    book = RateBook()
    admitted = book.admit((BANK, CI), 100, T0)
    assert book.at(T0)[BANK] == book.at(T0)[CI] == Rate(requests=1, tokens=100, in_flight=1, frees_in_s=61.0)
    book.settle(admitted, 100, T0 + 1)
    assert book.at(T0 + 60.5)[BANK] == Rate(requests=1, tokens=100, in_flight=0, frees_in_s=0.5)
    assert book.at(T0 + 61)[BANK].requests == 0


def test_a_scope_that_nobody_used_is_not_there() -> None:
    book = RateBook()
    assert book.at(T0).get(BANK) is None
    assert list(book) == []
    book.admit((BANK,), 1, T0)
    book.absorb({f"requests:{CI}": 3}, T0)
    assert set(book.at(T0)) == {BANK, CI}
    assert len(book) == 2


def test_what_was_not_used_is_given_back_to_its_second() -> None:
    book = RateBook()
    admitted = book.admit((BANK,), 1000, T0)
    book.settle(admitted, 150, T0 + 30)
    assert book.at(T0 + 30)[BANK].tokens == 150
    assert book.at(T0 + 61)[BANK].tokens == 0


def test_what_was_used_beyond_the_estimate_is_paid_for_by_those_that_follow() -> None:
    book = RateBook()
    admitted = book.admit((BANK,), 100, T0)
    book.settle(admitted, 5000, T0 + 90)
    assert book.at(T0 + 90)[BANK] == Rate(requests=0, tokens=4900, in_flight=0, frees_in_s=61.0)


def test_an_estimate_that_has_left_the_minute_is_not_given_back_again() -> None:
    book = RateBook()
    admitted = book.admit((BANK,), 1000, T0)
    book.admit((BANK,), 7, T0 + 90)
    book.settle(admitted, 0, T0 + 90)
    assert book.at(T0 + 90)[BANK] == Rate(requests=1, tokens=7, in_flight=1, frees_in_s=61.0)


def test_others_are_believed_for_a_while() -> None:
    mine, other = RateBook(), RateBook()
    other.admit((BANK, CI), 40, T0)
    mine.admit((BANK,), 2, T0)
    mine.absorb(other.gauges(T0) | {"gpu/0": 9, "queue:deep": 4, "requests:": 3}, T0)
    assert mine.at(T0)[BANK] == Rate(requests=2, tokens=42, in_flight=2, frees_in_s=61.0)
    assert mine.at(T0)[CI] == Rate(requests=1, tokens=40, in_flight=1, frees_in_s=UNKNOWN_FREES_IN_S)
    assert set(mine) == {BANK, CI}
    assert mine.at(T0 + OTHERS_BELIEVED_S)[BANK].requests == 1


def test_only_scopes_in_use_are_shown_and_kept() -> None:
    book = RateBook()
    book.settle(book.admit(("route:gdpr",), 5, T0), 5, T0)
    book.admit((BANK,), 5, T0 + 10)
    assert book.gauges(T0 + 65) == {f"requests:{BANK}": 1, f"tokens:{BANK}": 5, f"in_flight:{BANK}": 1}
    assert set(book) == {BANK}
    assert book.gauges(T0 + 500) == {f"requests:{BANK}": 0, f"tokens:{BANK}": 0, f"in_flight:{BANK}": 1}


@given(st.lists(st.floats(0, 30), min_size=1, max_size=60))
def test_no_minute_holds_more_than_is_counted_at_its_end(gaps_s: list[float]) -> None:
    book, now, times = RateBook(), T0, []
    for gap_s in gaps_s:
        now += gap_s
        book.admit((BANK,), 1, now)
        times.append(now)
        counted = book.at(now)[BANK].requests
        assert sum(1 for at in times if at > now - (SLICES - 1)) <= counted
        assert counted <= sum(1 for at in times if at > now - SLICES)


class Traffic(RuleBasedStateMachine):
    """Whatever is admitted and settled, and whenever: nothing goes below zero, and everything ends at nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.book, self.now = RateBook(), T0
        self.running: list[Admission] = []

    @rule(scopes=st.sampled_from([(BANK,), (BANK, CI), (CI, "route:x")]), tokens=st.integers(0, 1000))
    def admit(self, scopes: tuple[str, ...], tokens: int) -> None:
        self.running.append(self.book.admit(scopes, tokens, self.now))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), tokens=st.integers(0, 2000))
    def settle(self, data: st.DataObject, tokens: int) -> None:
        admitted = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.book.settle(admitted, tokens, self.now)

    @rule(later_s=st.floats(0, 50))
    def wait(self, later_s: float) -> None:
        self.now += later_s

    @rule()
    def sync(self) -> None:
        assert min(self.book.gauges(self.now).values(), default=0) >= 0

    @invariant()
    def nothing_is_negative_and_all_in_flight_counts(self) -> None:
        for scope in (BANK, CI):
            rate = self.book.rate(scope, self.now)
            assert rate.requests >= 0
            assert rate.tokens >= 0
            assert rate.frees_in_s > 0
        assert sum(rate.in_flight for rate in self.book.at(self.now).values()) == sum(
            len(one.places) for one in self.running
        )

    def teardown(self) -> None:
        for admitted in self.running:
            self.book.settle(admitted, 0, self.now)
        assert self.book.gauges(self.now + 62) == {}
        assert len(self.book) == 0


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
