"""Demand as it was metered says what the same requests say as a trace."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.advisor.demand import Demand, of_trace
from proxy.advisor.metered import demand_of, gathered, moved
from proxy.advisor.trace import App, Trace
from proxy.meters.demand_rows import DemandRow, Watched, rows_of, stored_hour
from proxy.meters.vectors import encode
from proxy.meters.work_bins import SUMS
from proxy.meters.work_buckets import LAST, bucket_of, counts_of
from proxy.policy.engine_profile import ASSUMED, EngineProfile
from proxy.routing.outcome import Usage
from proxy.routing.work import work_us

NOON = 1_795_348_800
HOUR_S = 3600
FASTER = replace(
    ASSUMED, name="faster", prefill_token_s=70e-6 / 2.3, sequence_s=90e-6 / 2.3, context_token_s=30e-9 / 2.3,
    attention_s=1.8e-9 / 2.3,
)  # fmt: skip


def trace(hours: float = 3.5, requests: int = 6000) -> Trace:
    draw = np.random.default_rng(7)
    return Trace(
        name="t",
        arrival_s=np.sort(draw.random(requests) ** 1.5) * hours * HOUR_S,
        input_tokens=draw.integers(1, 8000, requests),
        output_tokens=draw.integers(1, 900, requests),
        app=draw.integers(0, 2, requests).astype(np.int32),
        apps=(App(name="bank", tenant="bank"), App(name="bank/app", tenant="bank", key="bank/app")),
        span_s=hours * HOUR_S,
        began_at_s=float(NOON),
    )


def metered(of: Trace, profile: EngineProfile = ASSUMED, bin_ms: int = 3000) -> list[DemandRow]:
    """The rows that the meters make of a trace, when all of it was asked of `llama` as `m`."""
    bins: dict[int, dict[int, int]] = {}
    sums: dict[tuple[int, int], list[int]] = {}
    for at_s, into, out, app in zip(of.arrival_s, of.input_tokens, of.output_tokens, of.app, strict=True):
        hour, within = divmod(float(at_s), HOUR_S)
        work = work_us(Usage(input_tokens=int(into), output_tokens=int(out)), profile)
        index = int(within * 1000 // bin_ms)
        bins.setdefault(int(hour), {})[index] = bins.setdefault(int(hour), {}).get(index, 0) + work
        cell = sums.setdefault((int(hour), int(app)), [0] * len(SUMS))
        i, o = int(into), int(out)
        for place, term in enumerate((1, i, 0, o, i * i // 2, o * i + o * o // 2, work)):
            cell[place] += term
    rows: list[DemandRow] = [Watched(from_s=NOON, to_s=NOON + of.span_s)]
    for hour, works in bins.items():
        flat = [f"bins|{bin_ms}|llama|".encode(), encode(counts_of(works.values(), bin_ms)).encode()]
        for (at, app), cell in sums.items():
            if at == hour:
                one = of.apps[app]
                flat += [f"app|llama||{one.tenant}|{one.key}|m".encode(), encode(cell).encode()]
        rows += rows_of(stored_hour(NOON + hour * HOUR_S, flat, {}))
    return rows


def only(rows: list[DemandRow], profile: EngineProfile = ASSUMED) -> Demand:
    meters = gathered(rows)
    (pool,) = meters.pools.values()
    found = demand_of(pool, meters.watched, profile)
    assert found is not None
    return found


def assert_alike(one: Demand, other: Demand, rel: float) -> None:
    assert one.counts.shape == other.counts.shape
    assert one.seconds == pytest.approx(other.seconds, abs=one.bin_s)
    for capacity in (0.0, 0.3, 0.68, 1.5):
        assert one.excess(capacity) == pytest.approx(other.excess(capacity), rel=rel, abs=0.5)


def test_it_is_the_demand_of_the_same_requests_as_a_trace() -> None:
    of = trace()
    found, expected = only(metered(of)), of_trace(of, ASSUMED, 3.0)
    assert (found.name, found.bin_s, found.began_at_s, found.profile) == ("llama", 3.0, NOON, ASSUMED)
    assert np.abs(found.counts - expected.counts).sum() <= 4  # work in whole microseconds may cross an edge
    assert found.sums == pytest.approx(expected.sums, rel=1e-3)
    assert [(app.tenant, app.key, app.model) for app in found.apps] == [("bank", "", "m"), ("bank", "bank/app", "m")]
    assert_alike(found, expected, 0.002)


def test_work_that_was_metered_by_another_engine_is_moved_to_the_one_asked_about() -> None:
    of = trace()
    assert_alike(only(metered(of, FASTER), ASSUMED), of_trace(of, ASSUMED, 3.0), 0.02)
    assert_alike(only(metered(of, ASSUMED), FASTER), of_trace(of, FASTER, 3.0), 0.02)


@given(st.lists(st.integers(0, 10**7), max_size=60), st.floats(0.05, 20.0))
def test_moving_keeps_every_bin_and_its_work(works: list[int], ratio: float) -> None:
    counts = np.zeros(LAST + 1)
    for work in works:
        counts[bucket_of(work, 3000)] += 1
    there = moved(counts, ratio)
    assert there.sum() == pytest.approx(counts.sum())
    steps = (there @ np.arange(LAST + 1) - counts @ np.arange(LAST + 1)) / max(1.0, counts[1:].sum())
    if abs(ratio - 1) >= 0.005 and counts[:80].sum() == 0:
        assert steps == pytest.approx(16 * np.log2(ratio) if counts.sum() else 0.0)
