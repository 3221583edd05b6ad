"""The step model against hand-computed steps, against a slow and obvious twin, and against published figures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.simulator.profile import PROFILES, Profile
from proxy.simulator.step_model import Admission, Step, StepModel

ROUND = Profile(
    name="round figures",
    step_s=10.0,
    decode_s=1.0,
    kv_s=0.01,
    prefill_s=0.1,
    attention_s=0.001,
    kv_tokens=1000,
    max_batched_tokens=100,
    max_seqs=4,
)


def drain(model: StepModel) -> list[Step]:
    steps = []
    while (step := model.step()) is not None:
        steps.append(step)
    return steps


def test_a_lone_request_costs_what_the_formula_says() -> None:
    model = StepModel(ROUND)
    assert model.submit(1, 20, 3) is Admission.ACCEPTED
    prefill, second, third = drain(model)
    assert prefill.duration_s == pytest.approx(10 + 20 * (0.1 + 0.001 * 10))
    assert (prefill.first, prefill.input_tokens, prefill.output_tokens) == ((1,), 20, 1)
    assert second.duration_s == pytest.approx(10 + 1 + 0.01 * 21)
    assert third.duration_s == pytest.approx(10 + 1 + 0.01 * 22)
    assert third.finished == (1,)
    assert (model.unfinished, model.kv_tokens) == (0, 0)


def test_decoders_come_first_and_prompts_share_what_is_left_of_the_token_budget() -> None:
    model = StepModel(ROUND)
    model.submit(1, 10, 9)
    model.step()
    model.submit(2, 150, 2)
    chunk = model.step()
    assert chunk is not None
    assert (chunk.decoding, chunk.input_tokens, chunk.first) == (1, 99, ())
    assert chunk.duration_s == pytest.approx(10 + 1 + 0.01 * 11 + 99 * (0.1 + 0.001 * 49.5))
    rest = model.step()
    assert rest is not None
    assert (rest.input_tokens, rest.first) == (51, (2,))
    assert rest.duration_s == pytest.approx(10 + 1 + 0.01 * 12 + 51 * (0.1 + 0.001 * (99 + 25.5)))


def test_a_prompt_costs_the_same_however_it_is_cut() -> None:
    whole, cut = (StepModel(replace(ROUND, max_batched_tokens=budget)) for budget in (400, 7))
    for model in (whole, cut):
        model.submit(1, 400, 1)
    prefill_s = [sum(step.duration_s - ROUND.step_s for step in drain(model)) for model in (whole, cut)]
    assert prefill_s == pytest.approx([400 * 0.1 + 0.001 * 400**2 / 2] * 2)


def test_cached_prompt_tokens_hold_kv_but_cost_no_prefill() -> None:
    model = StepModel(ROUND)
    model.submit(1, 90, 2, cached_tokens=60)
    step = model.step()
    assert step is not None
    assert step.input_tokens == 30
    assert step.duration_s == pytest.approx(10 + 30 * (0.1 + 0.001 * 75))
    assert model.kv_tokens == 90


def test_requests_beyond_max_seqs_wait_their_turn() -> None:
    model = StepModel(ROUND)
    for request in range(6):
        model.submit(request, 5, 3)
    step = model.step()
    assert step is not None
    assert (step.first, model.running, model.waiting) == ((0, 1, 2, 3), 4, 2)


def test_full_counts_waiting_and_running_as_vllm_does() -> None:
    model = StepModel(replace(ROUND, max_seqs=2, max_requests=3))
    assert [model.submit(request, 5, 5) for request in range(4)] == [Admission.ACCEPTED] * 3 + [Admission.FULL]
    model.cancel(2)
    assert model.submit(4, 5, 5) is Admission.ACCEPTED


def test_what_can_never_fit_is_too_long_rather_than_queued_for_ever() -> None:
    model = StepModel(ROUND)
    assert model.submit(1, 900, 101) is Admission.TOO_LONG
    assert model.submit(1, 900, 100) is Admission.ACCEPTED


def test_when_kv_runs_out_the_newest_is_preempted_and_prefilled_again() -> None:
    model = StepModel(replace(ROUND, kv_tokens=24))
    model.submit(1, 10, 10)
    model.submit(2, 10, 5)
    steps = drain(model)
    preempting = next(step for step in steps if step.preempted)
    assert preempting.preempted == (2,)
    assert preempting.decoding == 1
    again = steps[steps.index(preempting) + 1 :]
    assert sum(step.input_tokens for step in again) == 13  # the prompt and the three tokens it had said
    assert [step.first for step in steps if step.first] == [(1, 2)]
    assert sum(step.output_tokens for step in steps) == 15


@pytest.mark.parametrize("steps_before", [0, 1, 2, 5], ids=["waiting", "half prefilled", "first token", "decoding"])
def test_cancel_frees_slot_and_kv_at_once_in_every_state(steps_before: int) -> None:
    model = StepModel(replace(ROUND, max_batched_tokens=40, max_seqs=1))
    model.submit(1, 60, 20)
    for _ in range(steps_before):
        model.step()
    assert model.cancel(1)
    assert (model.unfinished, model.running, model.waiting, model.kv_tokens) == (0, 0, 0, 0)
    assert not model.cancel(1)
    model.submit(1, 10, 2)
    assert [step.finished for step in drain(model)] == [(), (1,)]


def test_a_request_that_makes_no_sense_is_refused() -> None:
    model = StepModel(ROUND)
    for counts in ((0, 1, 0), (1, 0, 0), (5, 1, 5)):
        with pytest.raises(ValueError, match="prompt tokens"):
            model.submit(1, counts[0], counts[1], cached_tokens=counts[2])
    model.submit(1, 5, 5)
    with pytest.raises(ValueError, match="already"):
        model.submit(1, 5, 5)


@dataclass
class Twin:
    """The same engine, written to be read: every token of every sequence is counted one by one."""

    profile: Profile
    queue: list[dict[str, int]] = field(default_factory=list)
    batch: list[dict[str, int]] = field(default_factory=list)

    def submit(self, request: int, prompt: int, answer: int) -> None:
        self.queue.append({"id": request, "prompt": prompt, "answer": answer, "said": 0, "kv": 0, "reserved": 0})

    def cancel(self, request: int) -> None:
        self.queue = [each for each in self.queue if each["id"] != request]
        self.batch = [each for each in self.batch if each["id"] != request]

    def decoders(self) -> list[dict[str, int]]:
        return [each for each in self.batch if each["kv"] >= each["reserved"]]

    def kv(self) -> int:
        return sum(max(each["kv"], each["reserved"]) for each in self.batch)

    def step(self) -> tuple[float, dict[int, int], list[int]] | None:
        """Seconds, tokens said by each unfinished request, requests finished."""
        if not self.queue and not self.batch:
            return None
        p, admit = self.profile, True
        while self.kv() + len(self.decoders()) > p.kv_tokens:
            victim = self.batch.pop()
            victim["kv"] = victim["reserved"] = 0
            self.queue.insert(0, victim)
            admit = False
        speakers = self.decoders()
        for each in speakers:
            each["kv"] += 1
        seconds = p.step_s + p.decode_s * len(speakers) + p.kv_s * sum(each["kv"] for each in speakers)
        budget = p.max_batched_tokens - len(speakers)
        while budget:
            each = next((one for one in self.batch if one["kv"] < one["reserved"]), None)
            if each is None:
                if not (admit and self.queue and len(self.batch) < p.max_seqs):
                    break
                head = self.queue[0]
                if self.kv() + head["prompt"] + head["said"] > p.kv_tokens:
                    break
                each = self.queue.pop(0)
                each["reserved"] = each["prompt"] + each["said"]
                self.batch.append(each)
            while budget and each["kv"] < each["reserved"]:
                seconds += p.prefill_s + p.attention_s * (each["kv"] + 0.5)
                each["kv"] += 1
                budget -= 1
            if each["kv"] == each["reserved"]:
                speakers.append(each)
        for each in speakers:
            each["said"] += 1
        finished = sorted(each["id"] for each in self.batch if each["said"] == each["answer"])
        self.batch = [each for each in self.batch if each["said"] < each["answer"]]
        return seconds, {each["id"]: each["said"] for each in self.queue + self.batch}, finished


profiles = st.builds(
    lambda kv, budget, seqs: replace(ROUND, kv_tokens=kv, max_batched_tokens=budget + seqs, max_seqs=seqs),
    st.integers(60, 200),
    st.integers(0, 40),
    st.integers(1, 6),
)
actions = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(1, 40), st.integers(1, 20)),
        st.tuples(st.just("cancel"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("step"), st.integers(1, 6), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(profiles, actions)
def test_any_history_equals_the_twins(profile: Profile, history: list[tuple[str, int, int]]) -> None:
    """Same durations, same tokens, same order of finishing, KV and slots never exceeded, nobody lost."""
    model, twin = StepModel(profile), Twin(profile)
    submitted = 0
    for action, first, second in [*history, ("step", 10_000, 0)]:
        if action == "submit":
            assert model.submit(submitted, first, second) is Admission.ACCEPTED
            twin.submit(submitted, first, second)
            submitted += 1
        elif action == "cancel":
            model.cancel(first)
            twin.cancel(first)
        else:
            for _ in range(first):
                step, expected = model.step(), twin.step()
                if step is None or expected is None:
                    assert step is expected is None
                    break
                seconds, said, finished = expected
                assert step.duration_s == pytest.approx(seconds)
                assert {request: model.emitted(request) for request in said} == said
                assert sorted(step.finished) == finished
                assert model.unfinished == len(said)
                assert model.kv_tokens == twin.kv() <= profile.kv_tokens
                assert model.running == len(twin.batch) <= profile.max_seqs
                assert step.decoding + step.input_tokens <= profile.max_batched_tokens
    assert (model.unfinished, model.kv_tokens) == (0, 0)


@settings(max_examples=200, deadline=None)
@given(
    profiles,
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 20), st.floats(0, 300)), min_size=1, max_size=15),
)
def test_leaping_changes_nothing_but_the_number_of_calls(
    profile: Profile, arrivals: list[tuple[int, int, float]]
) -> None:
    """With the time of the next arrival as its horizon, a replay sees the same first tokens and ends."""

    def replayed(leap: bool) -> list[tuple[str, int, float]]:
        model, clock, seen = StepModel(profile), 0.0, []
        due = sorted((at_s, request) for request, (_, _, at_s) in enumerate(arrivals))
        for at_s, request in [*due, (float("inf"), -1)]:
            while clock < at_s:
                step = model.step(min(at_s - clock, 1e9) if leap else 0.0)
                if step is None:
                    clock = at_s
                    break
                clock += step.duration_s
                seen += [("first", each, clock) for each in step.first]
                seen += [("end", each, clock) for each in sorted(step.finished)]
            if request >= 0:
                model.submit(request, arrivals[request][0], arrivals[request][1])
        return seen

    slow, fast = replayed(leap=False), replayed(leap=True)
    assert [event[:2] for event in fast] == [event[:2] for event in slow]
    assert [event[2] for event in fast] == pytest.approx([event[2] for event in slow])


def test_a_leap_stops_at_the_first_step_that_fills_the_horizon() -> None:
    model = StepModel(ROUND)
    model.submit(1, 10, 100)
    model.step()
    leap = model.step(within_s=30.0)
    assert leap is not None
    assert (leap.count, leap.output_tokens, model.emitted(1)) == (3, 3, 4)
    assert leap.duration_s == pytest.approx(3 * 11 + 0.01 * (11 + 12 + 13))


def test_tokens_are_conserved_under_memory_pressure() -> None:
    """Every accepted request says exactly its answer, whatever is preempted on the way."""
    model = StepModel(replace(ROUND, kv_tokens=120, max_seqs=6))
    for request in range(40):
        model.submit(request, 1 + request % 30, 1 + request % 40)
    steps = drain(model)
    assert any(step.preempted for step in steps)
    assert sum(step.output_tokens for step in steps) == sum(1 + request % 40 for request in range(40))
    assert sorted(request for step in steps for request in step.finished) == list(range(40))


@pytest.mark.parametrize(("users", "tokens_per_s"), [(1, 58.6), (16, 50.9), (64, 35.7), (128, 25.6)])
def test_70b_speed_per_user_is_near_the_published_curve(users: int, tokens_per_s: float) -> None:
    """OCI's dedicated Llama-3.3-70B table, 480 tokens in and 300 out: the fit lies within 12 % over 1 to 128 users."""
    model, clock, asked = StepModel(PROFILES["70b-fp8-2xh100"]), 0.0, 0
    first: dict[int, float] = {}
    speeds: list[float] = []

    def ask() -> None:
        nonlocal asked
        model.submit(asked, 480, 300)
        asked += 1

    for _ in range(users):
        ask()
    while len(speeds) < 10 * users:
        step = model.step(within_s=1e9)
        assert step is not None
        clock += step.duration_s
        first |= dict.fromkeys(step.first, clock)
        for request in step.finished:
            speeds.append(299 / (clock - first.pop(request)))
            ask()
    steady = speeds[5 * users :]
    assert sum(steady) / len(steady) == pytest.approx(tokens_per_s, rel=0.12)
