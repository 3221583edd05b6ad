"""Pages of metrics, as each engine publishes them, in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from proxy.policy.model import Engine
from proxy.signals.distribution import Distribution
from proxy.signals.engine_metrics import EngineReading, NotUnderstood, Page, wanted_of
from proxy.signals.engine_metrics_names import DIALECTS
from tests.signals import engine_pages as pages


def reading_of(engine: Engine, page: bytes, piece: int = 1 << 16) -> EngineReading | None:
    made = Page(DIALECTS[engine], wanted_of(DIALECTS[engine]))
    for start in range(0, len(page), piece):
        made.feed(page[start : start + piece])
    return made.reading(7.0)


def read(engine: Engine, page: bytes, piece: int = 1 << 16) -> EngineReading:
    reading = reading_of(engine, page, piece)
    assert reading is not None
    return reading


def test_vllm_with_two_data_parallel_engines() -> None:
    seen = read(Engine.VLLM, pages.VLLM)
    assert (seen.as_of, seen.running, seen.waiting, seen.requests, seen.lag_s) == (7.0, 5, 4, 9, 0.0)
    assert (seen.kv_use, seen.preemptions) == (0.375, 3)
    assert (seen.input_tokens, seen.output_tokens) == (1_200_000, 50_000)
    assert seen.ttft == Distribution((0.1, 1.0), (3.0, 2.0, 1.0), 3.15)
    assert seen.queue == Distribution((), (4.0,), 2.0)
    assert seen.e2e is None


@pytest.mark.parametrize("piece", [1, 7, 64, 1000])
def test_a_page_may_come_in_any_pieces(piece: int) -> None:
    assert read(Engine.VLLM, pages.VLLM, piece) == read(Engine.VLLM, pages.VLLM)


def test_a_last_line_needs_no_end() -> None:
    assert read(Engine.LLAMACPP, b"llamacpp:requests_processing 2").running == 2


def test_sglang_counts_a_tensor_parallel_group_once_and_takes_the_line_of_all_priorities() -> None:
    seen = read(Engine.SGLANG, pages.SGLANG)
    assert (seen.running, seen.waiting, seen.kv_use) == (12, 1, 0.28)
    assert seen.preemptions == 4
    assert seen.ttft == Distribution((0.5,), (2.0, 1.0), 2.0)
    assert seen.queue is not None
    assert seen.lag_s > 0


@pytest.mark.parametrize("page", [pages.TRTLLM, pages.DYNAMO])
def test_tensorrt_llm(page: bytes) -> None:
    seen = read(Engine.TRTLLM, page)
    assert (seen.running, seen.waiting, seen.kv_use) == (6, 2, 0.75)
    assert seen.e2e == Distribution((), (9.0,), 18.0)


def test_tensorrt_llm_behind_triton() -> None:
    seen = read(Engine.TRTLLM, pages.TRITON)
    assert (seen.running, seen.waiting, seen.kv_use) == (8, 2, 0.4)


@pytest.mark.parametrize("piece", [1, 50, 4096])
def test_tensorrt_llm_as_a_list_of_steps(piece: int) -> None:
    seen = read(Engine.TRTLLM, pages.TRTLLM_STEPS, piece)
    assert (seen.running, seen.waiting, seen.kv_use, seen.pulse) == (4, 2, 0.5, 154.0)


def test_no_steps_say_nothing() -> None:
    assert reading_of(Engine.TRTLLM, b"[]") is None


def test_tgi() -> None:
    seen = read(Engine.TGI, pages.TGI)
    assert (seen.running, seen.waiting, seen.kv_use, seen.pulse) == (12, 3, None, 1000.0)
    assert seen.queue == Distribution((0.5,), (1.0, 3.0), 4.5)
    assert seen.ttft is None


def test_llamacpp() -> None:
    seen = read(Engine.LLAMACPP, pages.LLAMACPP)
    assert (seen.running, seen.waiting, seen.kv_use) == (2, 1, 0.125)
    assert (seen.input_tokens, seen.output_tokens) == (1024, 77)


def test_any_work_moves_a_reading() -> None:
    before = read(Engine.LLAMACPP, pages.LLAMACPP)
    assert not read(Engine.LLAMACPP, pages.LLAMACPP).moved_since(before)
    assert read(Engine.LLAMACPP, pages.LLAMACPP.replace(b"4001", b"4002")).moved_since(before)


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        (b"", "tells of no requests"),
        (b"<html>\n<body>hello</body></html>\n", "tells of no requests"),
        (b"vllm:num_requests_running many\n", "has no value"),
        (b'vllm:num_requests_running{a="b"}\n', "has no value"),
        (b"x" * 70_000, "not a page of metrics"),
        (b'{"error": "not found"}', "not a list of steps"),
        (b"[1, 2]", "not a list of steps"),
    ],
)
def test_other_pages_are_not_understood(page: bytes, complaint: str) -> None:
    with pytest.raises(NotUnderstood, match=complaint):
        reading_of(Engine.VLLM, page)


def test_what_is_no_number_is_left_out() -> None:
    seen = read(Engine.VLLM, b'vllm:num_requests_running{e="0"} 1\nvllm:kv_cache_usage_perc{e="0"} NaN\n')
    assert (seen.running, seen.kv_use) == (1, None)


def test_label_values_may_hold_anything() -> None:
    page = b'vllm:num_requests_running{model_name="a} 9 {\\"x\\"",engine="0"} 4 1700000000000\n'
    assert read(Engine.VLLM, page).running == 4


@given(
    names=st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=3, unique=True),
    values=st.lists(st.integers(0, 10**6), min_size=12, max_size=12),
    durations=st.lists(st.floats(0.0, 50.0), max_size=20),
    piece=st.integers(1, 300),
)
def test_it_reads_what_prometheus_own_parser_reads(
    names: list[str], values: list[int], durations: list[float], piece: int
) -> None:
    registry = CollectorRegistry()
    running = Gauge("vllm:num_requests_running", "of \\ {all} kinds", ["model_name"], registry=registry)
    preempted = Counter("vllm:num_preemptions", "", ["model_name"], registry=registry)
    ttft = Histogram("vllm:time_to_first_token_seconds", "", ["model_name"], registry=registry)
    for name, value in zip(names, values, strict=False):
        running.labels(name).set(value)
        preempted.labels(name).inc(value)
        for duration in durations:
            ttft.labels(name).observe(duration)
    text = generate_latest(registry)
    seen = read(Engine.VLLM, text, piece)
    samples = [sample for family in text_string_to_metric_families(text.decode()) for sample in family.samples]

    def total(name: str) -> float:
        return sum(sample.value for sample in samples if sample.name == name)

    assert (seen.running, seen.preemptions) == (total("vllm:num_requests_running"), total("vllm:num_preemptions_total"))
    if durations:
        assert seen.ttft is not None
        assert seen.ttft.count == total("vllm:time_to_first_token_seconds_count")
        assert seen.ttft.sum_s == pytest.approx(total("vllm:time_to_first_token_seconds_sum"))
        below = sum(sample.value for sample in samples if sample.labels.get("le") == "0.1")
        assert sum(seen.ttft.counts[: seen.ttft.bounds.index(0.1) + 1]) == below
