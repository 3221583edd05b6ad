"""Runs a coroutine without a task: step by step, resumed by the futures that it waits for.

Theory of operation
-------------------
A task costs its creation, one more turn of the event loop before its first step, and one for its wake-up. A request
that is served inside callbacks needs none of it: the coroutine is stepped where it stands until it waits for a future,
and again from that future's callback. PEP 3156's handshake between a future and the task that awaits it is done here in
the task's stead. Nothing that asks for the current task (`asyncio.timeout`, say) may be awaited inside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class Stepped:
    """One coroutine on its way. `ended` gets its result; what it raises is raised to whoever steps it."""

    __slots__ = ("_coroutine", "_ended")

    def __init__(self, coroutine: Any, ended: Callable[[Any], None]) -> None:
        self._coroutine: Any = coroutine
        self._ended = ended

    def step(self, _: object = None) -> None:
        """Run until the coroutine waits or ends."""
        if self._coroutine is not None:
            self._run(self._coroutine.send, None)

    def cancel(self) -> None:
        """Throw `CancelledError` in where it waits; nothing if it has ended."""
        if self._coroutine is not None:
            self._run(self._coroutine.throw, asyncio.CancelledError())

    def close(self) -> None:
        """Drop it where it waits."""
        coroutine, self._coroutine = self._coroutine, None
        if coroutine is not None:
            coroutine.close()

    def _run(self, step: Callable[[Any], Any], argument: Any) -> None:
        try:
            waits_for = step(argument)
        except StopIteration as stop:
            self._end(stop.value)
        except asyncio.CancelledError:
            self._end(None)
        else:
            if waits_for is None:
                asyncio.get_running_loop().call_soon(self.step)
            else:
                waits_for._asyncio_future_blocking = False
                waits_for.add_done_callback(self.step)

    def _end(self, result: Any) -> None:
        # Whoever waits for the end usually knows us: kept, the two would be garbage that only a full collection finds.
        ended, self._ended = self._ended, _forgotten
        self._coroutine = None
        ended(result)


def _forgotten(result: Any) -> None:
    """It has ended, and said so."""
