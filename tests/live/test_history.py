"""The ring of points behind the chart."""

from __future__ import annotations

import msgspec
from proxy.live.history import POINTS, STEP_S, History, Point, quantile


def point(at: float, ttft_s: float | None = 0.123456) -> Point:
    return Point(at, 1.0, 2.0, 0.0, 0.0, 300.0, ttft_s, ttft_s, 2 / 3, None, 1.5e9)


def test_points_become_columns_of_one_length() -> None:
    history = History()
    history.add(point(1.0))
    history.add(point(3.0, None))
    found = history.view()
    assert (found.step_s, found.at) == (STEP_S, (1.0, 3.0))
    assert (found.ttft_p99_s, found.spill_share) == ((0.1235, None), (0.6667, 0.6667))
    assert {len(column) for column in msgspec.structs.asdict(found).values() if isinstance(column, tuple)} == {2}


def test_without_points_all_columns_are_empty() -> None:
    assert History().view().at == ()


def test_old_points_leave() -> None:
    history = History()
    for at in range(2 * POINTS):
        history.add(point(float(at)))
    assert len(history.view().at) == POINTS
    assert history.view().at[0] == POINTS


def test_the_quantile_is_that_of_the_windows() -> None:
    assert quantile([], 0.5) is None
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([float(one) for one in range(100)], 0.99) == 98.0
