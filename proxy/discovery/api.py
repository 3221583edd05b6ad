"""What following a Service needs of the API server; `api_client.py` asks a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class ApiFailed(Exception):
    """The API server did not answer, or not with what was asked for; the text says why and holds no token.

    `status` is what it answered, None if nothing; `retry_after_s` is how long it asks to be left alone.
    """

    def __init__(self, text: str, *, status: int | None = None, retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after_s = retry_after_s


class Api(Protocol):
    """The API server. Both raise ApiFailed, and wait for as long as they are let."""

    @property
    def is_here(self) -> bool:
        """Whether it is on this host, and so its pods may be, as in a test."""
        ...

    async def get(self, path: str) -> bytes:
        """A body."""
        ...

    def watch(self, path: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """A body as it comes; entered when its head is there."""
        ...
