"""Carries out the runs of an experiment on an engine, one after another, within the time that there is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic

from proxy.advisor.experiment import APART_TOKENS, MOST_SETTLED_TOKENS, SETTLED_S, SETTLED_TOKENS, Run, warming
from proxy.advisor.timings import Observed
from proxy.cli.calibrate_streams import Engine, EngineFailed, Recording

LEAST_S = 1e-3
REST_S = 0.2
"""Between two runs: an engine needs a moment to drop what was asked of it."""


async def carry_out(
    engine: Engine, runs: tuple[Run, ...], most_s: float, told: Callable[[Run, Observed], None]
) -> tuple[Observed, ...]:
    """What was observed of as many of the runs as end within `most_s`; `told` of each. Raises `EngineFailed`."""
    done: list[Observed] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(most_s):
            await engine.greet()
            await _undivided(_observed(engine, warming(runs)))
            for run in runs:
                observed = await _undivided(_observed(engine, run))
                done.append(observed)
                told(run, observed)
                await asyncio.sleep(REST_S)
    return tuple(done)


async def _undivided(running: Awaitable[Observed]) -> Observed:
    """A task group's failures as the first of them."""
    try:
        return await running
    except* EngineFailed as group:
        failed: BaseException = group
        while isinstance(failed, BaseExceptionGroup):
            failed = failed.exceptions[0]
    raise failed


async def _observed(engine: Engine, run: Run) -> Observed:
    progress = _Progress()
    decoders = [progress.recording(run.prompt_tokens) for _ in range(run.decoders)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(engine.stream(run.answer_tokens, one)) for one in decoders]
        await progress.until(decoders, 1)
        joined = [await _joined(engine, progress, decoders, tokens) for tokens in run.joining]
        if run.joining:
            await progress.until(decoders, APART_TOKENS)
        else:
            await _settled(progress, decoders)
        for task in tasks:
            task.cancel()
    return Observed(
        decoders=tuple(one.stream for one in decoders if one.tokens),
        joined=tuple(one.stream for one in joined),
        held_out=run.held_out,
    )


async def _settled(progress: _Progress, decoders: list[Recording]) -> None:
    """Decode on for as many tokens as are wanted, and for as long."""
    began_s = monotonic()
    await progress.until(decoders, SETTLED_TOKENS)
    took_s = max(monotonic() - began_s, LEAST_S)
    more = round(SETTLED_TOKENS * (SETTLED_S / took_s - 1))
    await progress.until(decoders, min(max(0, more), MOST_SETTLED_TOKENS - SETTLED_TOKENS))


async def _joined(engine: Engine, progress: _Progress, decoders: list[Recording], tokens: int) -> Recording:
    await progress.until(decoders, APART_TOKENS)
    prompt = Recording(prompt_tokens=tokens)
    await engine.stream(1, prompt)
    return prompt


class _Progress:
    """Lets one task wait for what the streams of others have come to."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def recording(self, prompt_tokens: int) -> Recording:
        """A stream whose progress is watched."""
        return Recording(prompt_tokens=prompt_tokens, changed=self._changed.set)

    async def until(self, streams: list[Recording], tokens: int) -> None:
        """Wait until each has so many more tokens than now, or one has ended."""
        wanted = [stream.count + tokens for stream in streams]
        while not any(stream.ended for stream in streams) and any(
            stream.count < count for stream, count in zip(streams, wanted, strict=True)
        ):
            self._changed.clear()
            await self._changed.wait()
