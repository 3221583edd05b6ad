"""One performance of the demo: the load on its curve, the proxy's meters read now and then, and what came of it.

Theory of operation
-------------------
One event loop runs simulators, load and view; the proxy is a process of its own (`demo_stage.py`). A signal only sets
an event, so that every way of ending is the same way: stop sending, let answers finish, read the meters once more, stop
the proxy, say what happened.
"""

from __future__ import annotations

import asyncio
import signal
from collections import deque
from collections.abc import Callable
from time import monotonic

from rich.console import Console
from rich.live import Live

from proxy.cli.demo_money import Purse
from proxy.cli.demo_stage import MODEL, Stage, stage
from proxy.cli.demo_story import DEDICATED, SHARED, Story
from proxy.cli.demo_view import Frame, line, picture, summary
from proxy.simulator.load import Load, LoadCurve, Turn, Visit

PERIOD_S = 40.0
_PICTURE_S = 0.25
_LINE_S = 1.0
_METERS_S = 0.5
_DRAIN_S = 5.0
_HANG_UP_S = 0.5


async def perform(seconds: float | None, tui: bool) -> Story:
    """Play until a signal, or for `seconds`, and print the summary. Raises `StageError` when there is no proxy."""
    console, stop = Console(highlight=False), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    console.print("starting a simulated engine, a simulated provider, and the proxy ...")
    async with stage() as on_stage:
        console.print(f"watch it in a browser, too: {on_stage.console_url}")
        scene = Scene(on_stage, PERIOD_S if seconds is None else min(PERIOD_S, seconds))
        if tui and console.is_terminal:
            with Live(console=console, screen=True, auto_refresh=False) as live:
                await scene.play(stop, seconds, _PICTURE_S, lambda frame: _draw(live, scene, frame))
        else:
            await scene.play(stop, seconds, _LINE_S, lambda frame: _tell(console, scene, frame))
        console.print(
            summary(scene.story, scene.purse, on_stage.provider.ledger.totals.nano_usd, scene.at_s), soft_wrap=True
        )
    return scene.story


def _draw(live: Live, scene: Scene, frame: Frame) -> None:
    size = live.console.size
    live.update(picture(scene.story, scene.purse, frame, size.width, size.height), refresh=True)


def _tell(console: Console, scene: Scene, frame: Frame) -> None:
    for event in scene.story.events[scene.told :]:
        console.print(f"{event.at_s:5.1f} s  {event.text}", soft_wrap=True)
    scene.told = len(scene.story.events)
    console.print(line(scene.story, scene.purse, frame), soft_wrap=True)


class Scene:
    """One performance: the load on its curve, the proxy's meters read now and then, and what came of it."""

    def __init__(self, on_stage: Stage, period_s: float) -> None:
        self.story = Story(monotonic())
        self.purse = Purse()
        self.told = 0
        self._stage = on_stage
        self._curve = LoadCurve(low=4.0, high=24.0, period_s=period_s)
        self._load = Load(on_stage.url, MODEL, self._listen)
        self._tokens: deque[tuple[float, dict[str, int]]] = deque(maxlen=8)

    @property
    def at_s(self) -> float:
        """Seconds since the start."""
        return monotonic() - self.story.started_s

    async def play(
        self, stop: asyncio.Event, seconds: float | None, every_s: float, show: Callable[[Frame], None]
    ) -> None:
        """Run until `stop`, or for `seconds`, showing a frame now and then."""
        stopping = asyncio.create_task(stop.wait())
        working = (self._load.follow(self._curve), self._read_meters(), self._stage.proxy.lost())
        tasks = {asyncio.create_task(work) for work in working}
        try:
            while not stop.is_set() and (seconds is None or self.at_s < seconds):
                show(self._frame())
                ended, _ = await asyncio.wait({*tasks, stopping}, timeout=every_s, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    task.result()
        finally:
            for task in (*tasks, stopping):
                task.cancel()
            await asyncio.gather(*tasks, stopping, return_exceptions=True)
        await self._load.drain(_HANG_UP_S if stop.is_set() else _DRAIN_S)
        await self._settle()
        show(self._frame())

    def _listen(self, visit: Visit, turn: Turn) -> None:
        self.story.listen(visit, turn, monotonic())

    async def _read_meters(self) -> None:
        while True:
            await self._note_meters()
            await asyncio.sleep(_METERS_S)

    async def _note_meters(self) -> None:
        report = await self._stage.meters()
        if report is not None:
            self.purse.note(report, monotonic())

    async def _settle(self) -> None:
        """Read the meters until they have heard of every request; they are a fraction of a second behind."""
        for _ in range(20):
            await self._note_meters()
            if self.purse.requests >= self.story.requests:
                return
            await asyncio.sleep(0.1)

    def _frame(self) -> Frame:
        now, at_s = monotonic(), self.at_s
        engine, provider = self._stage.engine, self._stage.provider
        tokens = {
            DEDICATED: engine.ledger.totals.output_tokens,
            SHARED: provider.ledger.totals.output_tokens,
        }
        self._tokens.append((now, tokens))
        then, earlier = self._tokens[0]
        return Frame(
            at_s=at_s,
            now=now,
            rate=self._curve.rate(at_s),
            url=self._stage.url,
            console_url=self._stage.console_url,
            in_flight={DEDICATED: engine.open_requests, SHARED: provider.open_requests},
            tokens_per_s={lane: (tokens[lane] - earlier[lane]) / max(0.1, now - then) for lane in tokens},
        )
