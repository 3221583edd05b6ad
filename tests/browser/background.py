"""An event loop in a thread of its own: Playwright's tests are plain functions, and what they look at is not."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

Value = TypeVar("Value")
WITHIN_S = 60.0


class Background:
    """The loop. Use it as a context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Background:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, Value]) -> Value:
        """Wait until it is done there."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WITHIN_S)

    @contextlib.contextmanager
    def held(self, manager: AbstractAsyncContextManager[Value]) -> Iterator[Value]:
        """Enter and leave the manager there, both in one task."""
        entered: Future[Value] = Future()
        leave = asyncio.Event()

        async def hold() -> None:
            try:
                async with manager as value:
                    entered.set_result(value)
                    await leave.wait()
            except BaseException as error:
                if entered.done():
                    raise
                entered.set_exception(error)

        holding = asyncio.run_coroutine_threadsafe(hold(), self._loop)
        try:
            yield entered.result(WITHIN_S)
        finally:
            self._loop.call_soon_threadsafe(leave.set)
            holding.result(WITHIN_S)
