"""The work before a replica is what its streams say it is, and what its profile got wrong is learned."""

from __future__ import annotations

import random
from math import exp, log

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.routing.outcome import Failure, Outcome, Usage
from proxy.routing.plan import Estimate
from proxy.routing.readings import Load
from proxy.signals.workload import (
    BELIEVED_S,
    LATEST,
    LEAST,
    OTHERS_BELIEVED_S,
    SETTLED_SAMPLES,
    UNSURE_P90,
    Factor,
    Job,
    Workload,
    job_of,
)
from tests.routing.policies import dedicated, facts
from tests.signals.attempts import attempt, outcome

T0 = 1000.0
EU = attempt(dedicated())


def estimated(ttft_s: float = 1.0, itl_s: float = 0.04, **given: object) -> Estimate:
    told = {
        "saturated": False,
        "ttft_factor": 1.0,
        "itl_factor": 1.0,
        "ttft_aim_s": 2.0,
        "itl_aim_s": 0.05,
        "hit_tokens": 0,
        "output_tokens": 200.0,
    }
    return Estimate(ttft_s=ttft_s, itl_s=itl_s, **(told | given))  # type: ignore[arg-type]


def job(input_tokens: int = 1000, **given: object) -> Job:
    return job_of(facts(input_tokens=input_tokens), estimated(**given))  # type: ignore[arg-type]


def done(itl_s: float | None = None, output_tokens: int = 200, **given: object) -> Outcome:
    return outcome(EU, itl_s=itl_s, usage=Usage(output_tokens=output_tokens), **given)


def work_of(load: Load) -> tuple[int, int, int, int]:
    return load.waiting, load.queued_tokens, load.decoding, load.context_tokens


class TestWork:
    def test_a_prompt_is_queued_until_its_first_token_and_a_stream_until_its_end(self) -> None:
        work, one = Workload(), job(1000, hit_tokens=300)
        work.begin(one, T0, shows_first=True)
        assert work_of(work.read(T0)) == (1, 700, 0, 0)
        work.first(one, T0 + 1)
        assert work_of(work.read(T0 + 1)) == (0, 0, 1, 1100)
        work.end(one, T0 + 5)
        assert work_of(work.read(T0 + 5)) == (0, 0, 0, 0)

    def test_a_request_that_ends_before_its_first_token_leaves_the_queue(self) -> None:
        work, one = Workload(), job()
        work.begin(one, T0, shows_first=True)
        work.conclude(one, outcome(EU, Failure.BROKEN), T0 + 1)
        assert work_of(work.read(T0 + 1)) == (0, 0, 0, 0)

    def test_a_first_token_that_comes_after_the_end_changes_nothing(self) -> None:
        work, one = Workload(), job()
        work.begin(one, T0, shows_first=True)
        work.end(one, T0 + 1)
        work.first(one, T0 + 2)
        work.end(one, T0 + 3)
        assert work_of(work.read(T0 + 3)) == (0, 0, 0, 0)

    def test_a_reply_in_one_piece_is_taken_to_be_read_when_it_was_predicted_to_be(self) -> None:
        work, one = Workload(), job(ttft_s=1.5)
        work.begin(one, T0, shows_first=False)
        assert work_of(work.read(T0 + 1.4)) == (1, 1000, 0, 0)
        assert work_of(work.read(T0 + 1.5)) == (0, 0, 1, 1100)
        assert work.read(T0 + 1.5).samples == 0
        work.end(one, T0 + 9)
        assert work_of(work.read(T0 + 9)) == (0, 0, 0, 0)

    def test_a_reply_in_one_piece_that_ended_early_is_not_counted_again(self) -> None:
        work, one = Workload(), job(ttft_s=1.5)
        work.begin(one, T0, shows_first=False)
        work.end(one, T0 + 1)
        assert work_of(work.read(T0 + 2)) == (0, 0, 0, 0)

    def test_a_request_of_which_nothing_was_predicted_is_work_all_the_same(self) -> None:
        work, one = Workload(), job_of(facts(input_tokens=500), None)
        work.begin(one, T0, shows_first=True)
        assert work_of(work.read(T0)) == (1, 500, 0, 0)
        work.first(one, T0 + 9)
        work.conclude(one, done(0.5), T0 + 20)
        read = work.read(T0 + 20)
        assert (work_of(read), read.samples) == ((0, 0, 0, 0), 0)

    def test_the_rate_of_prompts_is_that_of_the_last_seconds(self) -> None:
        work = Workload()
        for second in range(30):
            one = job(2000)
            work.begin(one, T0 + second, shows_first=True)
            work.first(one, T0 + second)
        assert work.read(T0 + 29).prefill_tokens_per_s == pytest.approx(2000, rel=0.15)
        assert work.read(T0 + 34).prefill_tokens_per_s == pytest.approx(
            work.read(T0 + 29).prefill_tokens_per_s * exp(-1)
        )

    def test_the_longest_waiting_tells_how_late_the_replica_is(self) -> None:
        work, first, second = Workload(), job(ttft_s=2.0), job(ttft_s=0.1)
        work.begin(first, T0, shows_first=True)
        work.begin(second, T0 + 1, shows_first=True)
        assert work.read(T0 + 6).overdue == 3.0
        work.first(first, T0 + 6)
        assert work.read(T0 + 6).overdue == pytest.approx(10.0)  # against half a second: less is never late
        work.end(second, T0 + 6)
        assert work.read(T0 + 9).overdue == 0.0

    def test_it_is_known_when_the_last_request_was_sent(self) -> None:
        work = Workload()
        assert work.read(T0).begun_at < 0
        work.begin(job(), T0 + 3, shows_first=True)
        assert work.read(T0 + 9).begun_at == T0 + 3

    def test_warmth_is_handed_on(self) -> None:
        assert Workload().read(T0, 0.25).warmth == 0.25


STEPS = st.lists(
    st.tuples(st.integers(0, 7), st.sampled_from(("begin", "blind", "first", "end", "read")), st.booleans())
)


@given(STEPS, st.randoms(use_true_random=False))
def test_all_work_is_gone_when_all_requests_have_ended_in_whatever_order(
    steps: list[tuple[int, str, bool]], rng: random.Random
) -> None:
    work, jobs, now = Workload(), {}, T0
    for number, what, predicted in steps:
        now += rng.random()
        if what in ("begin", "blind") and number not in jobs:
            estimate = estimated(rng.choice((0.01, 1.0)), hit_tokens=rng.choice((0, 7))) if predicted else None
            jobs[number] = job_of(facts(input_tokens=rng.randrange(8, 9000)), estimate)
            work.begin(jobs[number], now, shows_first=what == "begin")
        elif what == "first" and number in jobs:
            work.first(jobs[number], now)
        elif what == "end" and number in jobs:
            work.conclude(jobs.pop(number), outcome(EU, rng.choice((None, Failure.BROKEN))), now)
        else:
            load = work.read(now)
            assert min(work_of(load)) >= 0
            assert load.waiting + load.decoding == len(jobs)
    left = list(jobs.values())
    rng.shuffle(left)
    for one in left:
        work.conclude(one, done(0.05), now)
    assert work_of(work.read(now + 100)) == (0, 0, 0, 0)
    assert set(work.gauges("g", now + 500)) <= {"g:ttft", "g:itl", "g:settled"}


class TestOthers:
    def test_what_others_have_there_is_added_and_forgotten_when_they_fall_silent(self) -> None:
        work, other = Workload(), Workload()
        one, two = job(3000), job(500)
        other.begin(one, T0, shows_first=True)
        other.begin(two, T0, shows_first=True)
        other.first(two, T0)
        work.absorb("gpus/0", other.gauges("gpus/0", T0), T0)
        read = work.read(T0 + 1)
        assert work_of(read) == (1, 3000, 1, 600)
        assert read.prefill_tokens_per_s == 100.0
        assert work_of(work.read(T0 + OTHERS_BELIEVED_S)) == (0, 0, 0, 0)
        assert work_of(other.read(T0)) == (1, 3000, 1, 600)

    def test_nothing_is_told_of_nothing(self) -> None:
        assert Workload().gauges("gpus/0", T0) == {}

    def test_others_are_taken_to_send_as_this_one_does_until_they_are_heard_again(self) -> None:
        work = Workload()
        for _ in range(2):
            work.begin(job(1000), T0, shows_first=True)
        work.absorb("g", {"g:waiting": 3, "g:queued": 5000, "g:decoding": 3}, T0)
        assert work.read(T0).queued_tokens == 7000
        work.begin(job(400), T0 + 0.1, shows_first=True)
        assert work.read(T0 + 0.1).queued_tokens == 7000 + 400 + 3 * 400
        work.absorb("g", {"g:waiting": 3, "g:queued": 6000, "g:decoding": 3}, T0 + 0.5)
        assert work.read(T0 + 0.5).queued_tokens == 2400 + 6000

    def test_whoever_is_alone_adds_nothing(self) -> None:
        work = Workload()
        work.absorb("g", {}, T0)
        work.begin(job(400), T0, shows_first=True)
        assert work.read(T0).queued_tokens == 400

    def test_a_new_one_starts_with_what_the_settled_have_learned(self) -> None:
        learned = Workload()
        for second in range(SETTLED_SAMPLES):
            learn(learned, 2.2, 0.08, T0 + second)
        told = learned.gauges("g", T0 + SETTLED_SAMPLES)
        assert told["g:settled"] == 1
        novice = Workload()
        novice.absorb("g", {name: 2 * value for name, value in told.items()}, T0 + 40)
        read = novice.read(T0 + 40)
        assert read.ttft_factor == pytest.approx(2.2, rel=1e-4)
        assert read.itl_factor == pytest.approx(2.0, rel=1e-4)
        assert read.samples == 0

    def test_what_was_learned_here_counts_for_more_than_what_others_tell(self) -> None:
        work = Workload()
        learn(work, 1.0, 0.04, T0)
        before = work.read(T0).ttft_factor
        work.absorb("g", {"g:settled": 1, "g:ttft": round(log(9) * 1e6)}, T0)
        assert work.read(T0).ttft_factor == before

    def test_the_unsettled_tell_nothing_of_what_they_have_learned(self) -> None:
        work = Workload()
        learn(work, 3.0, 0.08, T0)
        assert not work.gauges("g", T0).keys() & {"g:ttft", "g:itl", "g:settled"}


def learn(work: Workload, seen_ttft_s: float, seen_itl_s: float, now: float, **given: object) -> None:
    """One request, predicted to take 1 s and 40 ms unless it is said otherwise, took that long."""
    one = job(**given)
    work.begin(one, now - seen_ttft_s, shows_first=True)
    work.first(one, now)
    work.conclude(one, done(seen_itl_s), now)


class TestLearning:
    def test_waits_that_got_longer_make_gaps_longer_before_any_answer_has_ended(self) -> None:
        work = Workload()
        for _ in range(20):
            one = job()
            work.begin(one, T0 - 3.0, shows_first=True)
            work.first(one, T0)
        read = work.read(T0)
        assert read.ttft_factor == pytest.approx(3.0)
        assert read.itl_factor == read.step_factor == pytest.approx(3.0 / UNSURE_P90)

    def test_an_objective_that_was_missed_out_of_the_blue_tells_of_another_kind_of_machine(self) -> None:
        work = Workload()
        for _ in range(20):
            learn(work, 4.0, 0.4, T0, ttft_s=0.1, itl_s=0.02)
        read = work.read(T0)
        assert read.samples == 20
        assert read.ttft_factor == pytest.approx(20.0)
        assert read.itl_factor == pytest.approx(20.0)

    def test_only_times_that_were_predicted_to_matter_tell_anything(self) -> None:
        work = Workload()
        learn(work, 1.9, 0.049, T0, ttft_s=0.5, itl_s=0.02)
        read = work.read(T0)
        assert (read.samples, read.ttft_factor, read.itl_factor) == (0, 1.0, 1.0)
        for _ in range(9):
            learn(work, 5.0, 0.5, T0, ttft_s=0.5, itl_s=0.02, ttft_factor=1.3, itl_factor=1.6)
        read = work.read(T0)
        assert read.samples == 9
        assert read.ttft_factor == pytest.approx(10.0)
        assert read.itl_factor == pytest.approx(25.0)

    def test_the_gaps_of_a_short_answer_tell_nothing(self) -> None:
        work, one = Workload(), job()
        work.begin(one, T0, shows_first=True)
        work.conclude(one, done(0.5, output_tokens=31), T0)
        assert work.read(T0).itl_factor == 1.0

    def test_a_wait_in_vain_tells_that_it_was_at_least_so_long(self) -> None:
        work = Workload()
        for _ in range(9):
            one = job()
            work.begin(one, T0, shows_first=True)
            work.conclude(one, outcome(EU, Failure.FIRST_TOKEN_TIMEOUT, total_s=30.0), T0 + 30)
        assert work.read(T0 + 30).ttft_factor == 30.0

    def test_a_reply_in_one_piece_tells_nothing_of_its_first_token(self) -> None:
        work, one = Workload(), job()
        work.begin(one, T0, shows_first=False)
        work.first(one, T0 + 9)
        assert work.read(T0 + 9).samples == 0

    def test_full_steps_are_told_by_those_who_expected_nothing_else(self) -> None:
        work = Workload()
        for _ in range(20):
            learn(work, 1.0, 0.08, T0, saturated=True)
        assert work.read(T0).step_factor == pytest.approx(2.0)
        other = Workload()
        for _ in range(20):
            learn(other, 1.0, 0.08, T0)
        assert other.read(T0).step_factor == pytest.approx(2.0 / 1.25)  # no more than the gaps in the middle allow


class TestFactor:
    @pytest.mark.parametrize("scale", [2.0, 0.5])
    def test_it_finds_the_scale_of_a_wrong_profile_within_a_hundred_requests(self, scale: float) -> None:
        rng, factor = random.Random(1), Factor()
        for second in range(100):
            factor.observe(scale * rng.uniform(0.9, 1.05), T0 + second / 10)
        assert factor.value == pytest.approx(scale, rel=0.1)
        assert factor.middle == pytest.approx(scale, rel=0.1)

    def test_it_is_the_ninetieth_percentile_and_the_median_of_the_latest(self) -> None:
        factor = Factor()
        ratios = [n / LATEST for n in range(LATEST)]
        random.Random(2).shuffle(ratios)
        for ratio in [9.0] * LATEST + ratios:
            factor.observe(ratio, T0)
        assert factor.value == sorted(ratios)[round(0.9 * (LATEST - 1))]
        assert factor.middle == sorted(ratios)[LATEST // 2]
        assert factor.samples == 2 * LATEST

    def test_it_rises_within_ten_observations(self) -> None:
        factor = Factor()
        for second in range(LATEST):
            factor.observe(1.0, T0 + second)
        for second in range(10):
            factor.observe(3.0, T0 + LATEST + second)
        assert factor.value == 3.0

    def test_one_outlier_among_many_does_not_move_it(self) -> None:
        factor = Factor()
        for _ in range(40):
            factor.observe(1.0, T0)
        factor.observe(50.0, T0)
        assert factor.value == 1.0

    def test_it_forgets_what_is_old_but_keeps_the_last_few(self) -> None:
        factor = Factor()
        for _ in range(LATEST):
            factor.observe(4.0, T0)
        later = T0 + BELIEVED_S + 1
        factor.observe(1.0, later)
        assert factor.value == 4.0  # nine old ones are kept beside it
        for _ in range(LEAST - 1):
            factor.observe(1.0, later)
        assert factor.value == 1.0

    def test_it_starts_where_others_are_and_believes_itself_from_then_on(self) -> None:
        factor = Factor()
        factor.start(2.0)
        assert factor.value == factor.middle == 2.0
        factor.observe(1.0, T0)
        factor.start(9.0)
        assert factor.value == 2.0
        for _ in range(4):
            factor.observe(1.0, T0)
        assert factor.value == 1.0

    @given(st.lists(st.tuples(st.floats(0.01, 100), st.floats(0, 20)), min_size=5, max_size=200))
    def test_it_is_always_one_of_what_was_observed_lately(self, seen: list[tuple[float, float]]) -> None:
        factor, now, latest = Factor(), T0, []
        for ratio, gap_s in seen:
            now += gap_s
            latest.append((now, ratio))
            factor.observe(ratio, now)
        fresh = [ratio for at, ratio in latest[-LATEST:] if at >= now - BELIEVED_S]
        kept = fresh if len(fresh) >= LEAST else [ratio for _, ratio in latest[-LEAST:]]
        assert factor.value in [*kept, 1.0]
        assert factor.middle <= factor.value
        if len(seen) >= LEAST:
            assert factor.value == sorted(kept)[int(0.9 * (len(kept) - 1) + 0.5)]
