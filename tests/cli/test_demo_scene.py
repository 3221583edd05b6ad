"""A whole performance, on a shorter curve: dedicated only, then both lanes, then dedicated again."""

from __future__ import annotations

import asyncio

from proxy.cli.demo_scene import Scene
from proxy.cli.demo_stage import MAX_IN_FLIGHT, stage
from proxy.cli.demo_story import DEDICATED, SHARED
from proxy.cli.demo_view import Frame


async def test_traffic_fills_the_gpus_spills_and_comes_back() -> None:
    """And nobody is refused, and the meters agree with the provider's own books to the nano-dollar."""
    stop, frames = asyncio.Event(), list[Frame]()
    async with stage() as on_stage:
        scene = Scene(on_stage, period_s=12.0)

        def watch(frame: Frame) -> None:
            frames.append(frame)
            if scene.story.failures or (scene.story.complete and not scene.story.spilling):
                stop.set()

        async with asyncio.timeout(60):
            await scene.play(stop, None, 0.1, watch)
        provider = on_stage.provider.ledger.totals
    story = scene.story
    assert not story.failures
    assert story.began is not None
    assert story.returned is not None
    assert "16 of 16 in flight" in story.began.text
    assert story.spill_shares(frames[-1].now, 600)[:2] == [0.0, 0.0]
    assert max(frame.in_flight[DEDICATED] for frame in frames) == MAX_IN_FLIGHT
    assert max(frame.in_flight[SHARED] for frame in frames) > 0
    assert max(frame.tokens_per_s[DEDICATED] for frame in frames) > 0
    assert scene.purse.requests >= story.requests
    assert scene.purse.total(SHARED).nano_usd == provider.nano_usd
