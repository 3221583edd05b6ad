"""Where the time goes between a client's request and the engine's answer, and the hint about it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.signals.distribution import WINDOW_S, Distribution, Spread
from proxy.signals.end_to_end import EndToEnd, Gap, Parts, Seen, TargetLatency, Told, compare
from proxy.signals.engine_metrics import EngineReading
from tests.routing.policies import dedicated, shared

T0 = 1000.0
GPU = dedicated(replicas=2)


def spread(mean_s: float, samples: int = 100) -> Spread:
    return Spread(mean_s=mean_s, p50_s=mean_s, p99_s=2 * mean_s, samples=samples)


def gap(client_s: float, engine_s: float, queue_s: float | None = None, overhead_s: float = 0.001) -> Gap:
    told = Told(ttft=spread(engine_s), queue=None if queue_s is None else spread(queue_s))
    return compare(told, Seen(ttft=spread(client_s), overhead=spread(overhead_s)), region="eu-west-1")


@given(*[st.floats(0.0, 100.0) for _ in range(4)])
def test_the_parts_add_up_to_what_the_client_saw(client: float, engine: float, queue: float, overhead: float) -> None:
    parts = gap(client, engine, queue, overhead).ttft
    assert parts is not None
    assert parts.queue_s is not None
    assert min(parts.proxy_s, parts.queue_s, parts.engine_s, parts.outside_s) >= 0.0
    told = parts.proxy_s + parts.queue_s + parts.engine_s
    assert told + parts.outside_s == pytest.approx(max(client, told))


def test_the_parts_of_a_first_token() -> None:
    assert gap(1.9, 1.5, 1.2).ttft == Parts(
        client_s=1.9, proxy_s=0.001, queue_s=1.2, engine_s=pytest.approx(0.3), outside_s=pytest.approx(0.399)
    )


def test_without_the_engines_queue_its_work_is_all_of_it() -> None:
    parts = gap(1.9, 1.5).ttft
    assert parts is not None
    assert (parts.queue_s, parts.engine_s) == (None, 1.5)


@pytest.mark.parametrize(
    ("seen", "hint"),
    [
        (gap(1.9, 1.8, 1.2), "the engine queues 1.2 s of 1.9 s: add room, or lower `max_in_flight`"),
        (
            gap(0.83, 0.4, 0.01),
            (
                "429 ms of 830 ms outside the engine: region `eu-west-1` is far, connections are not reused,"
                " or its HTTP server is busy"
            ),
        ),
        (
            gap(0.3, 0.2, 0.0, 0.09),
            "the proxy takes 90 ms of 300 ms: start more workers (see `spillway_event_loop_lag_seconds`)",
        ),
        (gap(1.2, 1.15, 0.05), "nothing is lost on the way: the engine works 1.1 s of 1.2 s"),
        (gap(0.03, 0.02, 0.0), "nothing is lost on the way: the engine works 20 ms of 30 ms"),
        (
            gap(0.5, 2.0, 1.0),
            "the engine takes 2.0 s on average, this process sees 500 ms: others send it other work",
        ),
    ],
)
def test_the_largest_loss_is_named(seen: Gap, hint: str) -> None:
    assert seen.hint == hint


def test_an_unknown_region_is_not_named() -> None:
    found = compare(Told(ttft=spread(0.1)), Seen(ttft=spread(0.5)))
    assert "outside the engine: it is far," in found.hint


@pytest.mark.parametrize(
    ("round_trip_s", "cause"),
    [
        (0.4, "region `eu-west-1` is far, a round trip takes 400 ms"),
        (0.15, "region `eu-west-1` is far, a round trip takes 150 ms, and connections are not reused"),
        (0.0004, "its HTTP server or tokenizer is busy, a round trip takes 0.4 ms"),
    ],
)
def test_a_known_round_trip_tells_the_network_from_the_rest(round_trip_s: float, cause: str) -> None:
    told, seen = Told(ttft=spread(0.2)), Seen(ttft=spread(0.6), overhead=spread(0.0))
    found = compare(told, seen, region="eu-west-1", round_trip_s=round_trip_s)
    assert found.hint == f"400 ms of 600 ms outside the engine: {cause}"


@pytest.mark.parametrize(
    ("told", "seen", "hint"),
    [
        (Told(), Seen(), "no answer to a client of this process lately"),
        (Told(ttft=spread(1.0)), Seen(), "no answer to a client of this process lately"),
        (Told(), Seen(e2e=spread(1.0)), "the engine does not tell how long it takes"),
        (
            Told(ttft=spread(1.0, 2)),
            Seen(ttft=spread(1.0, 9)),
            "too few answers lately: 2 by the engine, 9 to clients of this process",
        ),
    ],
)
def test_what_cannot_be_known_is_said(told: Told, seen: Seen, hint: str) -> None:
    assert compare(told, seen).hint == hint


def test_answers_that_are_no_streams_are_compared_as_a_whole() -> None:
    found = compare(Told(ttft=spread(0.1), e2e=spread(3.0)), Seen(e2e=spread(3.1), overhead=spread(0.001)))
    assert found.ttft is None
    assert found.e2e is not None
    assert found.e2e.outside_s == pytest.approx(0.099)
    assert found.hint == "nothing is lost on the way: the engine works 3.0 s of 3.1 s"


def told_by(count: int, each_s: float, at: float) -> EngineReading:
    """An engine that has answered so many, each after `each_s` of which half was the queue's."""
    ttft = Distribution((0.1, 1.0, 10.0), (0.0, 0.0, count, 0.0), count * each_s)
    queue = Distribution((0.1, 1.0, 10.0), (0.0, count, 0.0, 0.0), count * each_s / 2)
    return EngineReading(as_of=at, running=0, waiting=0, ttft=ttft, queue=queue)


def of(both: EndToEnd, now: float) -> TargetLatency:
    (found,) = both.compared(now, {})
    return found


def feed(both: EndToEnd, count: int, now: float, ttft_s: float | None = 2.5) -> None:
    for _ in range(count):
        both.feed(GPU.name, ttft_s=ttft_s, total_s=4.0, overhead_s=0.5, now=now)


def test_replicas_count_together() -> None:
    both = EndToEnd([GPU, shared()])
    for url in GPU.urls:
        both.told(GPU.name, url, told_by(100, 5.0, T0))
        both.told(GPU.name, url, told_by(110, 5.0, T0 + 10))
    feed(both, 20, T0 + 5)
    found = of(both, T0 + 10)
    assert found.told.ttft is not None
    assert (found.told.ttft.samples, found.told.ttft.mean_s) == (20, pytest.approx(5.0))
    assert found.told.queue is not None
    assert found.told.queue.mean_s == pytest.approx(2.5)
    assert found.seen.ttft is not None
    assert found.seen.e2e is not None
    assert (found.seen.ttft.mean_s, found.seen.e2e.mean_s, found.seen.e2e.samples) == (3.0, 4.5, 20)


def test_both_sides_forget_after_the_window() -> None:
    both = EndToEnd([GPU])
    both.told(GPU.name, GPU.urls[0], told_by(0, 5.0, T0))
    both.told(GPU.name, GPU.urls[0], told_by(50, 5.0, T0 + 1))
    feed(both, 20, T0)
    assert of(both, T0 + 2).gap.ttft is not None
    assert of(both, T0 + 2 * WINDOW_S) == TargetLatency(
        target=GPU.name, told=Told(), seen=Seen(), gap=Gap(hint="no answer to a client of this process lately")
    )


def test_what_is_no_stream_has_no_first_token() -> None:
    both = EndToEnd([GPU])
    feed(both, 3, T0, ttft_s=None)
    feed(both, 1, T0)
    found = of(both, T0)
    assert found.seen.ttft is not None
    assert found.seen.e2e is not None
    assert (found.seen.ttft.samples, found.seen.e2e.samples) == (1, 4)


def test_shared_targets_and_strangers_are_nobodys_concern() -> None:
    both = EndToEnd([shared()])
    both.feed(shared().name, ttft_s=1.0, total_s=1.0, overhead_s=0.1, now=T0)
    both.told("nobody", "http://nowhere/v1", told_by(1, 1.0, T0))
    assert list(both.compared(T0, {})) == []


def test_a_new_policy_keeps_what_is_known_of_whoever_stays() -> None:
    both = EndToEnd([GPU])
    for count, at in ((0, T0), (50, T0 + 1)):
        for url in GPU.urls:
            both.told(GPU.name, url, told_by(count, 5.0, at))
    feed(both, 20, T0)
    both.adopt([replace(GPU, urls=GPU.urls[:1], region="us-1")])
    found = of(both, T0 + 1)
    assert found.told.ttft is not None
    assert found.seen.ttft is not None
    assert (found.told.ttft.samples, found.seen.ttft.samples) == (50, 20)
    both.adopt([])
    assert list(both.compared(T0 + 1, {})) == []
