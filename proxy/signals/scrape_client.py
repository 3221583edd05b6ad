"""The HTTP client of `scrape.py`, apart from it because it takes long to import.

It asks only where the policy says: redirects are not followed, no proxy of the environment is used, and a page is asked
for as it is, since packing it would cost the engine more than sending it.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx

from proxy.signals.scrape import ScrapeFailed

_HEADERS = {
    "accept": "text/plain;version=0.0.4, application/json;q=0.5",
    "accept-encoding": "identity",
    "user-agent": "spillway",
}


def opener(timeout_s: float, max_bytes: int) -> Callable[[], HttpFetch]:
    """What makes clients. Blocks for as long as the certificates of the system take to load."""
    return partial(HttpFetch, ssl.create_default_context(), timeout_s, max_bytes)


class HttpFetch:
    """Pages over a connection that is kept; each within `timeout_s` and of at most `max_bytes`.

    One for each engine: httpx looks at all connections of a pool for every request, with a system call for each.
    """

    def __init__(self, tls: ssl.SSLContext, timeout_s: float, max_bytes: int) -> None:
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._connecting_at = 0.0
        self.connect_s: float | None = None
        self._client = httpx.AsyncClient(
            headers=_HEADERS, verify=tls, timeout=timeout_s, follow_redirects=False, trust_env=False
        )

    async def get(self, url: str, key: str | None, feed: Callable[[bytes], None]) -> int:
        """See `Fetch`."""
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        told: dict[str, Any] = {"trace": self._trace}
        asking = self._client.stream("GET", url, headers=headers, extensions=told)
        try:
            async with asyncio.timeout(self._timeout_s), asking as answer:
                if answer.status_code == 200:
                    await self._read(url, answer, feed)
                return answer.status_code
        except TimeoutError:
            raise ScrapeFailed(f"{url} does not answer within {self._timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise ScrapeFailed(f"{url}: {str(error) or type(error).__name__}") from None

    async def aclose(self) -> None:
        """Close the connection."""
        await self._client.aclose()

    async def _trace(self, event: str, info: object) -> None:
        """How long it took to connect (https://www.encode.io/httpcore/extensions/#trace)."""
        if event == "connection.connect_tcp.started":
            self._connecting_at = time.monotonic()
        elif event == "connection.connect_tcp.complete":
            self.connect_s = time.monotonic() - self._connecting_at

    async def _read(self, url: str, answer: httpx.Response, feed: Callable[[bytes], None]) -> None:
        size = 0
        async for piece in answer.aiter_raw():
            size += len(piece)
            if size > self._max_bytes:
                raise ScrapeFailed(f"{url} is longer than {self._max_bytes >> 20} MiB", settled=True)
            feed(piece)
