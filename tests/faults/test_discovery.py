"""A thousand changes to the pods of a Service, through an API server that breaks off, forgets and is away for minutes.

The cluster here does what a real one does: pods come, become ready and unready, terminate and vanish, and their slices
split, merge and are written in any order. What of it should be used is worked out from the pods themselves.
"""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import dataclass, field, replace
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
from proxy.discovery.backoff import pause_s
from proxy.discovery.kubernetes_source import USUAL

from tests.apiserver import ApiServer, Refusal, endpoint, endpoint_slice, status
from tests.discovery.following import Following, following

CHANGES = 1000
RIGHT_WITHIN_S = 1.0
MANY = 12


@dataclass
class Pod:
    """One behind the Service; `ipv6` where the Service has both families."""

    uid: str
    ipv4: str
    ipv6: str
    ready: bool = False
    serving: bool = False
    terminating: bool = False

    def endpoint(self, address: str) -> Any:
        return endpoint(self.uid, address, ready=self.ready, serving=self.serving, terminating=self.terminating)


@dataclass
class Cluster:
    """The pods, and how they are spread over slices."""

    server: ApiServer
    draw: random.Random
    pods: dict[str, Pod] = field(default_factory=dict)
    placed: dict[str, list[str]] = field(default_factory=dict)
    """The uids in each slice."""
    numbers: Any = field(default_factory=count)

    def used(self) -> set[str]:
        """The addresses that should be used now."""
        ready = {pod.ipv4 for pod in self.pods.values() if pod.ready}
        return ready or {pod.ipv4 for pod in self.pods.values() if pod.terminating and pod.serving}

    def counted(self) -> tuple[int, int]:
        """How many terminate, and how many of the others are not ready."""
        leaving = sum(pod.terminating for pod in self.pods.values())
        return leaving, sum(not pod.ready and not pod.terminating for pod in self.pods.values())

    def change(self) -> None:
        """Something happens."""
        crowded = len(self.pods) > MANY
        often = [self.leave, self.vanish] if crowded else [self.come, self.come]
        self.draw.choice([*often, self.turn, self.turn, self.leave, self.vanish, self.split, self.merge, self.move])()

    def come(self) -> None:
        number = next(self.numbers)
        uid = f"pod-{number}"
        self.pods[uid] = Pod(uid, f"10.{number >> 8}.{number & 255}.7", f"fd00::{number:x}")
        name = self.draw.choice([*sorted(self.placed), f"slice-{number}"])
        self.placed.setdefault(name, []).append(uid)
        self.write(name)

    def turn(self) -> None:
        """Ready to unready, or back."""
        if staying := [pod for pod in self.pods.values() if not pod.terminating]:
            pod = self.draw.choice(staying)
            pod.ready = pod.serving = not pod.ready
            self.write(self.slice_of(pod.uid))

    def leave(self) -> None:
        if staying := [pod for pod in self.pods.values() if not pod.terminating]:
            pod = self.draw.choice(staying)
            pod.ready, pod.terminating = False, True
            self.write(self.slice_of(pod.uid))

    def vanish(self) -> None:
        if self.pods:
            uid = self.draw.choice(sorted(self.pods))
            name = self.slice_of(uid)
            del self.pods[uid]
            self.placed[name].remove(uid)
            self.write(name)

    def split(self) -> None:
        """Half of a slice goes to a new one: the new one first, so that its pods are in both for a moment."""
        if self.placed:
            name, new = self.draw.choice(sorted(self.placed)), f"slice-{next(self.numbers)}"
            half = len(self.placed[name]) // 2
            self.placed[new] = self.placed[name][:half]
            self.write(new)
            self.placed[name] = self.placed[name][half:]
            self.write(name)

    def merge(self) -> None:
        """All of a slice goes to another one, and the slice itself."""
        if len(self.placed) > 1:
            gone, into = self.draw.sample(sorted(self.placed), 2)
            self.placed[into] += self.placed.pop(gone)
            self.write(into)
            for family in ("", "-6"):
                self.server.delete(gone + family)

    def move(self) -> None:
        """A pod is in no slice for a moment."""
        if self.pods and self.placed:
            uid = self.draw.choice(sorted(self.pods))
            before, after = self.slice_of(uid), self.draw.choice(sorted(self.placed))
            self.placed[before].remove(uid)
            self.write(before)
            self.placed[after].append(uid)
            self.write(after)

    def slice_of(self, uid: str) -> str:
        return next(name for name, uids in self.placed.items() if uid in uids)

    def write(self, name: str) -> None:
        """Both families of a slice, in any order."""
        pods = [self.pods[uid] for uid in self.placed[name]]
        four = endpoint_slice(name, *(pod.endpoint(pod.ipv4) for pod in pods))
        six = endpoint_slice(f"{name}-6", *(pod.endpoint(pod.ipv6) for pod in pods), family="IPv6")
        for one in self.draw.sample([four, six], 2):
            self.server.put(one)


@dataclass
class Weather:
    """What goes wrong between and amid the changes."""

    server: ApiServer
    draw: random.Random
    had: dict[str, int] = field(default_factory=dict)

    def strike(self) -> None:
        """Something goes wrong, or nothing does."""
        strikes = [self.cut, self.cut_in_line, self.forget, self.gone, self.bookmark, self.refuse]
        if self.draw.random() < 0.3:
            strike = self.draw.choice(strikes)
            strike()
            self.had[strike.__name__] = self.had.get(strike.__name__, 0) + 1

    def cut(self) -> None:
        self.server.cut()

    def cut_in_line(self) -> None:
        self.server.faults.cut_in_line = True

    def forget(self) -> None:
        """What happened while nobody listened is not told any more."""
        self.server.faults.gone_as_event = self.draw.random() < 0.5
        self.server.stall()
        self.server.elsewhere(100)
        self.server.cut()
        asyncio.get_running_loop().call_soon(self.server.compact)

    def gone(self) -> None:
        self.server.end_watches(status(410, "Expired", "too old resource version"))

    def bookmark(self) -> None:
        self.server.elsewhere(3)
        self.server.bookmark()

    def refuse(self) -> None:
        self.server.faults.refusals = [Refusal(code=self.draw.choice([429, 500, 503]), times=1)]
        self.server.cut()


def right(of: Following, cluster: Cluster) -> bool:
    found = of.found
    return of.hosts() == cluster.used() and (found.terminating, found.unready) == cluster.counted()


async def test_replicas_are_right_within_a_second_of_each_of_a_thousand_changes(tmp_path: Path) -> None:
    draw = random.Random(6)
    loop = asyncio.get_running_loop()
    took: list[float] = []
    kept = 0
    async with following(tmp_path, draw=random.Random(7), timings=USUAL) as of:
        cluster, weather = Cluster(of.server, draw), Weather(of.server, draw)
        for _ in range(CHANGES):
            before = of.discovery.found()["a"].urls
            if not of.found.trouble:  # what went wrong last has been got over
                weather.strike()
            cluster.change()
            changed_at = loop.time()
            await of.until(lambda: right(of, cluster), within_s=30.0)
            took.append(loop.time() - changed_at)
            after = of.found.urls
            stayed = [url for url in before if url in after]
            kept += [url for url in after if url in before] == stayed
        asked = len(of.server.asked)
    assert kept >= 0.99 * CHANGES
    slow = sorted(took)
    print(f"{CHANGES} changes, {weather.had}, {asked} requests: median {slow[CHANGES // 2] * 1000:.1f} ms,", end=" ")
    print(f"99 % {slow[CHANGES * 99 // 100] * 1000:.0f} ms, longest {slow[-1] * 1000:.0f} ms")
    assert slow[-1] <= RIGHT_WITHIN_S
    assert min(weather.had.values()) >= 20
    assert len(weather.had) == 6


async def test_what_changes_in_quick_succession_is_right_in_the_end(tmp_path: Path) -> None:
    draw = random.Random(8)
    async with following(tmp_path, draw=random.Random(9), timings=USUAL) as of:
        cluster, weather = Cluster(of.server, draw), Weather(of.server, draw)
        for _ in range(8):
            for _ in range(50):
                cluster.change()
                weather.strike()
                await asyncio.sleep(0)
            await of.until(lambda: right(of, cluster), within_s=20.0)
        told = [found["a"].urls for found in of.told]
    assert told
    assert all(one != other for one, other in pairwise(told))


def tries(away_s: float) -> list[float]:
    """When a server that is away for so long is asked by the timings in use, if chance makes each pause its longest."""
    at, asked = 0.0, [0.0]
    for failures in count(1):
        at += pause_s(failures, 1.0, first_s=USUAL.first_pause_s, longest_s=USUAL.silent_pause_s)
        asked.append(at)
        if at > away_s:
            return asked
    raise AssertionError("it has no end")


def test_five_minutes_are_spent_asking_every_two_seconds() -> None:
    asked = tries(300.0)
    assert asked[-1] - 300.0 <= USUAL.silent_pause_s == 2.0
    assert math.isclose(asked[-1] - asked[-2], USUAL.silent_pause_s)
    assert len(asked) <= 160


@pytest.mark.parametrize("forgotten", [False, True], ids=["remembered", "compacted"])
async def test_while_the_api_is_away_for_five_minutes_what_was_known_serves(tmp_path: Path, forgotten: bool) -> None:
    """Time runs a hundred times as fast: pauses are of hundredths of a second, and it is away for three seconds."""
    fast = 100.0
    times = ("answer_s", "watch_s", "grace_s", "first_pause_s", "silent_pause_s", "refused_pause_s", "sound_s")
    timings = replace(USUAL, **{name: getattr(USUAL, name) / fast for name in times if name != "answer_s"})
    loop = asyncio.get_running_loop()
    draw = random.Random(10)
    async with following(tmp_path, timings=timings, clock=lambda: loop.time() * fast) as of:
        cluster = Cluster(of.server, draw)
        for _ in range(40):
            cluster.change()
        await of.until(lambda: right(of, cluster))
        known = of.found.urls
        assert known
        told = len(of.told)
        await of.server.down()
        for _ in range(40):  # nobody can see it
            cluster.change()
        if forgotten:
            of.server.compact()
        back_at = loop.time() + 300.0 / fast
        while loop.time() < back_at:
            assert of.found.urls == known
            await asyncio.sleep(0.01)
        found = of.found
        assert not found.up
        assert "no answer from the API server" in found.trouble
        assert 290.0 <= loop.time() * fast - found.as_of <= 400.0
        assert told == len(of.told) or of.told[-1]["a"].urls == known
        await of.server.up()
        up_at = loop.time()
        await of.until(lambda: right(of, cluster))
        print(f"right {loop.time() - up_at:.3f} s after it was back")
        assert loop.time() - up_at <= USUAL.silent_pause_s / fast + RIGHT_WITHIN_S
        await of.until(lambda: of.found.up and of.found.trouble == "")


async def test_by_the_usual_timings_replicas_are_right_soon_after_the_api_is_back(tmp_path: Path) -> None:
    """Away for long enough for the pauses to be their longest: that is reached after four seconds."""
    draw = random.Random(11)
    loop = asyncio.get_running_loop()
    assert tries(300.0)[6] < 7.0
    async with following(tmp_path, timings=USUAL) as of:
        cluster = Cluster(of.server, draw)
        for _ in range(40):
            cluster.change()
        await of.until(lambda: right(of, cluster))
        known = of.found.urls
        await of.server.down()
        for _ in range(40):
            cluster.change()
        await asyncio.sleep(6.0)  # the fault lasts; nothing announces its end
        assert of.found.urls == known
        await of.server.up()
        up_at = loop.time()
        await of.until(lambda: right(of, cluster))
        print(f"right {loop.time() - up_at:.3f} s after it was back")
        assert loop.time() - up_at <= USUAL.silent_pause_s + RIGHT_WITHIN_S
