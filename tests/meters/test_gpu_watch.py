"""What one process saw of a target: kept while the store is away, forgotten when it has accrued, and bounded."""

from __future__ import annotations

from itertools import pairwise
from zoneinfo import ZoneInfo

from proxy.meters.gpu_watch import MOST_LOOKS, Piece, Watch
from proxy.policy.gpus import Gpus, TimedPrice
from proxy.policy.schedule import Schedule

H100 = Gpus(type="H100", count=4, nano_usd_per_hour=1000)
NOON_MS = 1_795_348_800_000


def pieces(watch: Watch, begin: float, end: float) -> list[Piece]:
    """With the store's clock at noon when this process's stands at 1000."""
    return list(watch.pieces(begin, end, NOON_MS + round((end - 1000.0) * 1000.0)))


def test_what_is_seen_holds_since_the_look_before() -> None:
    watch = Watch(1000.0)
    watch.look(1000.2, H100, 3, 0)
    watch.look(1000.4, H100, 2, 1)
    assert pieces(watch, 1000.0, 1000.5) == [
        Piece(NOON_MS, 3, 0, 12, 12_000, 0),
        Piece(NOON_MS + 200, 2, 1, 8, 8_000, 4_000),
    ]


def test_looks_that_saw_the_same_are_one() -> None:
    watch = Watch(1000.0)
    for step in range(10_000):
        watch.look(1000.0 + step, H100, 3, 0)
    assert len(watch._looks) == 1
    assert pieces(watch, 1000.0, 11_000.0) == [Piece(NOON_MS, 3, 0, 12, 12_000, 0)]


def test_what_has_accrued_is_forgotten_but_for_the_last_look() -> None:
    watch = Watch(1000.0)
    watch.look(1001.0, H100, 3, 0)
    watch.look(1002.0, H100, 2, 0)
    watch.accrued(1001.5)
    assert (watch.since, pieces(watch, 1001.5, 1003.0)) == (1001.5, [Piece(NOON_MS + 1500, 2, 0, 8, 8_000, 0)])
    watch.accrued(1005.0)
    assert [piece.replicas for piece in pieces(watch, 1005.0, 1006.0)] == [2]


def test_an_edge_of_the_price_is_a_piece_of_its_own() -> None:
    later = Schedule(zone=ZoneInfo("UTC"), from_minute=12 * 60 + 1, to_minute=0)
    timed = Gpus(
        type="H100",
        count=4,
        nano_usd_per_hour=1000,
        schedule=(TimedPrice(schedule=later, nano_usd_per_hour=1),),
    )
    watch = Watch(1000.0)
    watch.look(1100.0, timed, 1, 0)
    assert pieces(watch, 1000.0, 1100.0) == [Piece(NOON_MS, 1, 0, 4, 4000, 0), Piece(NOON_MS + 60_000, 1, 0, 4, 4, 0)]


def test_without_a_price_there_are_replicas_only() -> None:
    watch = Watch(1000.0)
    watch.look(1001.0, None, 2, 1)
    assert pieces(watch, 1000.0, 1001.0) == [Piece(NOON_MS, 2, 1, 0, 0, 0)]


def test_a_watch_is_bounded_and_keeps_the_changes_of_scale() -> None:
    """Two days of an outage in which something else is busy at every look."""
    watch = Watch(1000.0)
    for step in range(170_000):
        watch.look(1001.0 + step, H100, 3 if step < 80_000 else 5, (step * 2_654_435_761 >> 9) % 2)
    seen = pieces(watch, 1000.0, 171_000.0)
    assert len(seen) <= MOST_LOOKS
    (change,) = [after.from_ms for before, after in pairwise(seen) if before[1] != after[1]]
    assert change == NOON_MS + 80_000_000
    busy_ms = sum((after.from_ms - before.from_ms) * before.busy_replicas for before, after in pairwise(seen))
    assert 0.3 < busy_ms / 170_000_000 < 0.7


def test_a_watch_is_bounded_even_when_the_scale_changes_all_the_time() -> None:
    watch = Watch(1000.0)
    for step in range(10_000):
        watch.look(1001.0 + step, H100, step % 7, 0)
    assert len(pieces(watch, 1000.0, 11_000.0)) <= MOST_LOOKS
