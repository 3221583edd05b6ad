"""Whatever befalls four processes and their store, and in whatever order: no limit is ever exceeded.

Processes are cut off, crash, leave and start; questions and answers are lost, or answered when nobody listens any more;
the store dies, is wiped, fails over, sets its clock back. The bound is checked for every span of time.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.policy.model import Limits
from tests.meters.bucket_world import World, offered, world
from tests.thorough import examples

EXACT = 1e-6
TROUBLES = ("", "", "question lost", "answer lost", "late")
NOBODY = 10**9
"""Who starts without a store has no share, then: what it would have is not leased from anybody."""
REMEMBERED_S = 600.0

demands = st.tuples(*[st.sampled_from([0.0, 0.0, 0.5, 3.0, 8.0])] * 5)
events = st.sampled_from(
    [
        "nothing",
        "cut off",
        "reach again",
        "store dies",
        "store returns",
        "wipe",
        "flush",
        "fail over",
        "clock back",
        "crash",
        "leave",
        "start",
        "lossy",
        "sound",
    ]
)
stories = st.lists(st.tuples(events, st.integers(0, 4), demands, st.floats(0.1, 8.0)), max_size=14)
Story = list[tuple[str, int, tuple[float, ...], float]]


def happen(one: World, event: str, which: int, limits: Limits) -> None:
    """One event befalls one process, or the store."""
    process = one.processes[which % len(one.processes)]
    steps: dict[str, Callable[[], None]] = {
        "cut off": lambda: setattr(process, "reachable", False),
        "reach again": lambda: [setattr(each, "reachable", True) for each in one.processes] and None,
        "store dies": lambda: setattr(one, "up", False),
        "store returns": lambda: setattr(one, "up", True),
        "wipe": one.wipe,
        "flush": lambda: one.wipe(restart=False),
        "fail over": one.restart,
        "clock back": lambda: setattr(one, "skew_s", one.skew_s - 3600.0),
        "lossy": lambda: setattr(process, "trouble", lambda: one.random.choice(TROUBLES)),
        "sound": lambda: setattr(process, "trouble", lambda: ""),
    }
    if event in steps:
        steps[event]()
    elif event == "start" and len(one.processes) < 5 and all(each.in_touch for each in one.processes):
        # One that starts while nobody reaches the store knows nothing of what the others hold, nor would the store.
        one.add(limits, expected_members=NOBODY, forget_s=REMEMBERED_S)
        one.go(1.0)
    elif event in ("crash", "leave") and len(one.processes) > 2:
        one.processes.remove(process)
        process.alive = False
        if event == "leave" and one.up and process.reachable:
            process.leave()


@settings(max_examples=examples(40), deadline=None)
@given(story=stories, seed=st.integers(0, 1000), limit=st.sampled_from([3, 60, 240]))
def test_requests(store_url: str, story: Story, seed: int, limit: int) -> None:
    limits = Limits(rpm=limit)
    with world(store_url, limits, seed=seed, forget_s=REMEMBERED_S) as one:
        for event, which, parts, lasts_s in story:
            happen(one, event, which, limits)
            list(offered(one, [part * limit / 60.0 for part in parts[: len(one.processes)]], lasts_s))
        assert one.excess(limit) <= EXACT


@settings(max_examples=examples(30), deadline=None)
@given(story=stories, seed=st.integers(0, 1000))
def test_tokens(store_url: str, story: Story, seed: int) -> None:
    limits = Limits(tpm=6000)
    with world(store_url, limits, seed=seed, forget_s=REMEMBERED_S) as one:
        for event, which, parts, lasts_s in story:
            happen(one, event, which, limits)
            list(offered(one, list(parts[: len(one.processes)]), lasts_s, tokens=300))
        # While on its own, a process takes a request that is larger than its share of the bucket: none is, here.
        assert one.excess(6000) <= EXACT


@settings(max_examples=examples(30), deadline=None)
@given(story=stories, seed=st.integers(0, 1000), limit=st.sampled_from([1, 8, 40]))
def test_places(store_url: str, story: Story, seed: int, limit: int) -> None:
    limits = Limits(concurrency=limit)
    with world(store_url, limits, seed=seed, forget_s=REMEMBERED_S) as one:
        for event, which, _, lasts_s in story:
            happen(one, event, which, limits)
            until = one.now + lasts_s
            while one.now < until:
                for process in one.processes:
                    for _ in range(one.random.choice([0, 0, 1, 4])):
                        process.ask(lasts_s=one.random.uniform(0.1, 4.0))
                assert sum(process.in_use for process in one.processes) <= limit
                one.go(0.15)
