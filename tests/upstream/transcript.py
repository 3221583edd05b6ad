"""A sink that writes down what it is told, and says when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from proxy.upstream.base import Head
from proxy.upstream.errors import UpstreamError


class Transcript:
    """The `Sink` of one exchange. `on` maps a step's name to something to do in the middle of it."""

    def __init__(self, **on: Callable[[], None]) -> None:
        self.steps: list[str] = []
        self.head: Head | None = None
        self.body = b""
        self.error: UpstreamError | None = None
        self.over = asyncio.Event()
        self.begun = asyncio.Event()
        self.on = on

    @property
    def status(self) -> int:
        assert self.head is not None
        return self.head.status

    def on_head(self, head: Head) -> None:
        self.head = head
        self._note("head")

    def on_data(self, data: bytes) -> None:
        self.body += data
        self.begun.set()
        self._note("data")

    def on_end(self) -> None:
        self.over.set()
        self._note("end")

    def on_failure(self, error: UpstreamError) -> None:
        self.error = error
        self.over.set()
        self._note("failure")

    def _note(self, step: str) -> None:
        self.steps.append(step)
        self.on.get(step, lambda: None)()

    async def finished(self) -> Any:
        """Wait for the end or the failure."""
        await asyncio.wait_for(self.over.wait(), 5)
        return self
