"""The replica where a request fares best takes it, and of those that are too slow it is said by how much."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.policy.engine_profile import LLAMA_70B_FP8_2XH100
from proxy.policy.model import Traffic
from proxy.routing.facts import Facts
from proxy.routing.place import UNHURRIED, Placed, Placement, aims_of, estimate, expected_output_tokens, place, too_slow
from proxy.routing.predict import DEFAULT_TTFT_S, ITL_MARGIN, MARGIN, PROBE_S, Aims, Steps
from proxy.routing.readings import NO_OUTLOOK, Load, Outlook, Reading
from tests.routing.policies import NOW, dedicated, facts, loads, reading, replaced

STEPS = Steps(dedicated(replicas=8, profile=LLAMA_70B_FP8_2XH100))
ASKED = facts(input_tokens=1000, max_output_tokens=200)
HURRIED = Aims(ttft_s=2.0, itl_s=0.05, stated=True)
BUSY = Load(waiting=5, queued_tokens=8000, decoding=20, context_tokens=30_000, begun_at=NOW)
DROWNED = Load(waiting=20, queued_tokens=40_000, decoding=60, context_tokens=90_000, begun_at=NOW)
LATE = Load(waiting=9, queued_tokens=24_000, decoding=40, context_tokens=60_000, begun_at=NOW)


def seen(*given: Load | None) -> list[Reading]:
    return [reading("llama-eu", replica, load=load) for replica, load in enumerate(given)]


def placed(*given: Load | None, asked: Facts = ASKED, aims: Aims = HURRIED, outlook: Outlook = NO_OUTLOOK) -> Placement:
    return place(STEPS, seen(*given), asked, aims, outlook, NOW)


def replica(one: Placed | None) -> int | None:
    return None if one is None else one.reading.replica


def test_the_replica_with_the_least_before_it_takes_the_request() -> None:
    found = placed(BUSY, Load(begun_at=NOW), DROWNED)
    assert (replica(found.best), replica(found.second), replica(found.nearest)) == (1, 0, 2)


def test_a_replica_that_nobody_has_observed_is_idle() -> None:
    found = placed(BUSY, None)
    assert replica(found.best) == 1
    assert found.best is not None
    assert found.best.load == Load()


def test_of_those_that_are_all_too_slow_the_shortest_wait_is_remembered() -> None:
    found = placed(DROWNED, LATE)
    assert (replica(found.best), replica(found.second), replica(found.nearest)) == (None, None, 1)


def test_a_request_stays_with_its_prefix_until_the_wait_there_is_longer_than_reading_it_again() -> None:
    long = facts(input_tokens=8000, max_output_tokens=200)
    cached = Outlook(hits={"llama-eu": (0, 7900)})
    assert replica(placed(Load(begun_at=NOW), BUSY, asked=long).best) == 0
    found = placed(Load(begun_at=NOW), replaced(BUSY, queued_tokens=2000, waiting=1), asked=long, outlook=cached)
    assert replica(found.best) == 1
    assert found.best is not None
    assert found.best.prediction.hit_tokens == 7900
    assert replica(placed(Load(begun_at=NOW), LATE, asked=long, outlook=cached).best) == 0


@pytest.mark.parametrize("input_tokens", [0, 1, 5])
def test_a_prompt_is_never_taken_to_be_wholly_cached(input_tokens: int) -> None:
    found = placed(Load(), asked=facts(input_tokens=input_tokens), outlook=Outlook(hits={"llama-eu": (512,)}))
    assert found.best is not None
    assert found.best.prediction.hit_tokens == max(input_tokens - 1, 0)


def test_gaps_count_as_half_as_much_as_the_wait() -> None:
    """One has a short wait and long gaps, the other the opposite; the aims say which is worse."""
    slow_steps = Load(begun_at=NOW, itl_factor=1.4, step_factor=9.0)
    slow_start = Load(begun_at=NOW, ttft_factor=4.0)
    assert replica(placed(slow_steps, slow_start, aims=Aims(ttft_s=0.8, itl_s=0.2, stated=True)).best) == 0
    assert replica(placed(slow_steps, slow_start, aims=Aims(ttft_s=20.0, itl_s=0.05, stated=True)).best) == 1


def test_the_gap_needs_no_margin_where_even_a_full_step_keeps_its_objective() -> None:
    small = Steps(dedicated(profile=LLAMA_70B_FP8_2XH100, max_batched_tokens=256))
    flooded = Load(decoding=90, context_tokens=150_000, prefill_tokens_per_s=9000.0, begun_at=NOW)
    full_s = small.predict(flooded, 1000, 0, 200.0).full_s
    for aim_s, fits in ((full_s, True), (full_s * 0.999, False)):
        aims = Aims(ttft_s=inf, itl_s=aim_s, stated=True)
        assert (place(small, seen(flooded), ASKED, aims, NO_OUTLOOK, NOW).best is not None) is fits


def test_a_replica_that_only_its_factors_condemn_is_probed_once_in_a_while() -> None:
    condemned = Load(ttft_factor=30.0, begun_at=NOW - PROBE_S)
    assert replica(placed(condemned).best) == 0
    assert placed(replaced(condemned, begun_at=NOW - PROBE_S + 0.1)).best is None
    assert placed(replaced(DROWNED, begun_at=NOW - 60)).best is None
    assert placed(replaced(condemned, overdue=31.0)).best is None  # somebody is probing it, and still waits


def test_a_probe_is_no_better_than_a_replica_that_is_well() -> None:
    condemned = Load(ttft_factor=30.0, begun_at=NOW - PROBE_S)
    found = placed(condemned, BUSY)
    assert (replica(found.best), replica(found.second)) == (1, 0)


def test_answers_are_as_long_as_their_apps_and_never_longer_than_is_allowed() -> None:
    assert expected_output_tokens(facts(), NO_OUTLOOK) == 256
    assert expected_output_tokens(facts(max_output_tokens=100), NO_OUTLOOK) == 100
    assert expected_output_tokens(facts(max_output_tokens=1000), Outlook(output_tokens=40.0)) == 40
    assert expected_output_tokens(facts(max_output_tokens=30, choices=3), Outlook(output_tokens=40.0)) == 90


def test_offline_traffic_hurries_only_where_its_route_says_so() -> None:
    offline = facts(traffic=Traffic.OFFLINE)
    assert aims_of(Aims(), offline) is UNHURRIED
    assert aims_of(HURRIED, offline) is HURRIED
    assert aims_of(Aims(), facts()) == Aims(ttft_s=DEFAULT_TTFT_S)


def test_what_was_predicted_goes_along_with_the_attempt() -> None:
    outlook = Outlook(output_tokens=50.0, hits={"llama-eu": (512,)})
    found = placed(replaced(BUSY, ttft_factor=1.2, itl_factor=0.9), outlook=outlook)
    assert found.best is not None
    made, prediction = estimate(found.best, ASKED, HURRIED, outlook), found.best.prediction
    assert (made.ttft_s, made.itl_s) == (prediction.raw_ttft_s, prediction.raw_itl_s)
    assert (made.ttft_factor, made.itl_factor) == (pytest.approx(1.2), pytest.approx(0.9))
    assert (made.ttft_aim_s, made.itl_aim_s, made.hit_tokens, made.output_tokens) == (2.0, 0.05, 512, 50.0)


@pytest.mark.parametrize(
    ("load", "aims", "words"),
    [
        (LATE, HURRIED, "llama-eu: ttft predicted 2.04 s (queue 24k tokens, 40 streams) against 1.8 s"),
        (
            Load(waiting=1, queued_tokens=1500, decoding=120, context_tokens=600_000),
            Aims(ttft_s=inf, itl_s=0.04),
            "llama-eu: itl predicted 46 ms (queue 1.5k tokens, 120 streams) against 34 ms",
        ),
        (
            Load(decoding=9, context_tokens=470_000),
            Aims(ttft_s=9.0),
            "llama-eu: kv 470k tokens of context against 447k tokens in memory",
        ),
    ],
)
def test_what_is_too_slow_says_by_how_much_and_why(load: Load, aims: Aims, words: str) -> None:
    found = placed(load, aims=aims)
    assert found.nearest is not None
    assert str(too_slow(STEPS, found.nearest, MARGIN * aims.ttft_s, aims.itl_s)) == words


# The rule written out again, naively: all predictions first, then a sort.

CAPS = st.builds(
    Aims,
    ttft_s=st.sampled_from((0.3, 2.0, inf)),
    itl_s=st.sampled_from((0.03, 0.05, 0.2, inf)),
    stated=st.booleans(),
)


def naive(usable: Sequence[Reading], asked: Facts, aims: Aims, outlook: Outlook) -> Placement:
    def feasible(one: Placed) -> bool:
        load, said = one.load, one.prediction
        itl_limit_s = aims.itl_s * (1.0 if said.full_s <= aims.itl_s else ITL_MARGIN)

        def keeps(ttft_s: float, itl_s: float) -> bool:
            return said.fits and ttft_s <= MARGIN * aims.ttft_s and itl_s <= itl_limit_s

        may_probe = NOW - load.begun_at >= PROBE_S and load.overdue <= load.ttft_factor
        return keeps(said.ttft_s, said.itl_s) or (may_probe and keeps(said.raw_ttft_s, said.raw_itl_s))

    def score(one: Placed) -> float:
        scale_s = 2.0 if aims.ttft_s == inf else aims.ttft_s
        return one.prediction.ttft_s / scale_s + one.prediction.itl_s / aims.itl_s / 2

    output_tokens = expected_output_tokens(asked, outlook)
    found = []
    for one in usable:
        hit = min(outlook.hits.get("llama-eu", (0,) * 8)[one.replica], max(asked.input_tokens - 1, 0))
        found.append(Placed(one, STEPS.predict(one.load or Load(), asked.input_tokens, hit, output_tokens)))
    best = sorted(filter(feasible, found), key=score)
    others = sorted((one for one in found if not feasible(one)), key=lambda one: one.prediction.ttft_s)
    return Placement(*[*best, None, None][:2], *[*others, None][:1])


@given(
    st.lists(st.none() | loads, min_size=1, max_size=8),
    st.sampled_from((0, 1, 500, 12_000)),
    CAPS,
    st.sampled_from(({}, {"llama-eu": (0, 400, 16_000, 3, 0, 0, 9, 1)})),
)
def test_the_best_is_feasible_and_scores_least(
    given: list[Load | None], input_tokens: int, aims: Aims, hits: dict[str, tuple[int, ...]]
) -> None:
    asked, outlook = facts(input_tokens=input_tokens), Outlook(hits=hits)
    usable = seen(*given)
    assert place(STEPS, usable, asked, aims, outlook, NOW) == naive(usable, asked, aims, outlook)
