"""The sweep: everything that is watched is checked, a few times a second, and by the time at which it is due."""

from __future__ import annotations

import asyncio
import time

from proxy.deadlines import PERIOD_S, Deadlines


class Seen:
    """Something watched: notes the times of its checks, and says when it has had enough."""

    def __init__(self, enough: int = 1) -> None:
        self.times: list[float] = []
        self.enough = enough
        self.had_enough = asyncio.Event()

    def check(self, now: float) -> None:
        self.times.append(now)
        if len(self.times) == self.enough:
            self.had_enough.set()

    async def wait(self) -> None:
        await asyncio.wait_for(self.had_enough.wait(), 5)


async def test_what_is_watched_is_checked_again_and_again() -> None:
    deadlines, seen = Deadlines(), Seen(3)
    deadlines.add(seen)
    started = time.monotonic()
    deadlines.start()
    await seen.wait()
    deadlines.stop()
    assert all(late - early >= PERIOD_S * 0.9 for early, late in zip([started, *seen.times], seen.times, strict=False))


async def test_what_is_no_longer_watched_is_left_alone() -> None:
    deadlines, gone, kept = Deadlines(), Seen(), Seen(2)
    for watched in (gone, kept):
        deadlines.add(watched)
    deadlines.discard(gone)
    deadlines.discard(gone)
    deadlines.start()
    await kept.wait()
    deadlines.stop()
    assert gone.times == []


async def test_a_check_may_remove_itself_and_others_and_add_more() -> None:
    deadlines, late = Deadlines(), Seen(1)

    class Busy(Seen):
        def check(self, now: float) -> None:
            super().check(now)
            deadlines.discard(self)
            deadlines.add(late)

    busy = [Busy(), Busy()]
    for one in busy:
        deadlines.add(one)
    deadlines.start()
    await late.wait()
    deadlines.stop()
    assert [len(one.times) for one in busy] == [1, 1]


async def test_a_loop_that_was_held_up_is_seen_as_lag() -> None:
    deadlines, seen = Deadlines(), Seen()
    deadlines.add(seen)
    deadlines.start()
    until = time.monotonic() + PERIOD_S + 0.05
    while time.monotonic() < until:
        pass
    await seen.wait()
    deadlines.stop()
    assert deadlines.lag_s >= 0.05


async def test_after_the_stop_nothing_is_checked() -> None:
    deadlines, seen, other = Deadlines(), Seen(), Deadlines()
    deadlines.stop()
    deadlines.add(seen)
    deadlines.start()
    deadlines.stop()
    witness = Seen(2)
    other.add(witness)
    other.start()
    await witness.wait()
    other.stop()
    assert seen.times == []
