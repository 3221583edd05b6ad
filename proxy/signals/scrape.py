"""Reads the metrics of every engine that has some, about once a second, and never on the path of a request.

Theory of operation
-------------------
There is a task for each replica. It asks, reads the page as it comes, hands on the reading and sleeps; the sleeps are
jittered, so that the replicas, and the workers of one proxy, do not ask all at once. Where nobody answers it asks ever
more rarely. A question takes at most `TIMEOUT_S`, and a page that never ends is given up. A task that dies of a mistake
of ours is begun anew, and the mistake is logged.

Another policy changes what is asked: the tasks of replicas that went are ended, new ones begun; what is known of the
others stays. With very many replicas each is asked more rarely, so that all of it takes a small share of the loop.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Protocol

import msgspec

from proxy.policy.model import Engine, Lane, Target
from proxy.signals.engine_metrics import EngineReading, NotUnderstood, Page, Wanted, wanted_of
from proxy.signals.engine_metrics_names import DIALECTS

_log = logging.getLogger(__name__)

EVERY_S = 1.0
JITTER = 0.1
APART_S = 0.015
"""Two questions are on average at least so far apart: 256 replicas are asked every 3.8 s each. A reading is believed
for 5 s.
"""
TIMEOUT_S = 2.0
MAX_PAGE_BYTES = 16 << 20
LONGEST_PAUSE_S = 10.0
SETTLED_PAUSE_S = 30.0
"""Between questions to an engine that answers, but not with metrics."""
_ELSEWHERE = {404, 405, 501}
"""What is answered where there are no metrics: another path may have them."""
SILENT_AFTER = 3
"""So many questions in a row without an answer are worth a line in the log: one may fall into a restart."""

OnReading = Callable[[str, str, EngineReading], None]
"""Called on the event loop with the target's name, the replica's URL as the policy has it, and what the engine says."""

_VERSION = re.compile(r"/v\d+$")


class ScrapeFailed(Exception):
    """Nobody answered, or with something else; the text says why and holds no secret. `settled`: asking again soon
    will not help.
    """

    def __init__(self, text: str, *, settled: bool = False) -> None:
        super().__init__(text)
        self.settled = settled


class Fetch(Protocol):
    """How a page is read (`scrape_client.py`). `connect_s` is how long the last TCP connection took: one round trip."""

    @property
    def connect_s(self) -> float | None: ...

    async def get(self, url: str, key: str | None, feed: Callable[[bytes], None]) -> int:
        """Ask `url`, with a bearer key if there is one, and feed the body of an answer of 200. Returns the status.

        Raises ScrapeFailed.
        """
        ...

    async def aclose(self) -> None: ...


OpenFetch = Callable[[], Fetch]


class Standing(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How the scraping of one replica stands: its latest reading, how long it took to connect, and what is wrong
    (empty if nothing is).
    """

    target: str
    replica: int
    url: str
    reading: EngineReading | None
    connect_s: float | None
    failures: int
    trouble: str


def metrics_url(base_url: str, path: str) -> str:
    """Where the metrics are of an engine whose API is at `base_url`: beside `/v1`, not below it."""
    return _VERSION.sub("", base_url.rstrip("/")) + path


class _Source:
    """One replica that is asked."""

    __slots__ = (
        "connect_s",
        "dialect",
        "failures",
        "path",
        "reading",
        "replica",
        "target",
        "task",
        "trouble",
        "url",
        "wanted",
    )

    def __init__(self, target: Target, replica: int, url: str, wanted: Mapping[bytes, Wanted]) -> None:
        assert target.engine is not None, "it has an engine, or is no source"
        self.target = target
        self.replica = replica
        self.url = url
        self.dialect = DIALECTS[target.engine]
        self.wanted = wanted
        self.path = 0
        self.reading: EngineReading | None = None
        self.connect_s: float | None = None
        self.failures = 0
        self.trouble = ""
        self.task: asyncio.Task[None] | None = None

    def placed(self, target: Target, replica: int) -> bool:
        """Take a place in another policy; whether that is still the same engine, with the same key."""
        same = (target.engine, target.api_key) == (self.target.engine, self.target.api_key)
        self.target, self.replica = target, replica
        return same


class Scraper:
    """See the module's text. `on_reading` gets each reading as it comes; `open_fetch` makes the HTTP client of one
    replica, if it is to be another one.
    """

    def __init__(
        self,
        targets: Iterable[Target],
        on_reading: OnReading,
        *,
        open_fetch: OpenFetch | None = None,
        every_s: float = EVERY_S,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_reading = on_reading
        self._open_fetch = open_fetch
        self._opening = asyncio.Lock()
        self._every_s = every_s
        self._draw = draw
        self._clock = clock
        self._running = False
        self._sources: dict[tuple[str, str], _Source] = {}
        self._wanted = {engine: wanted_of(dialect) for engine, dialect in DIALECTS.items()}
        self.adopt(targets)

    def adopt(self, targets: Iterable[Target]) -> None:
        """Follow another policy."""
        before, self._sources = self._sources, {}
        for target in targets:
            for replica, url in enumerate(target.urls if _tells(target) else ()):
                known = before.pop((target.name, url), None)
                if known is not None and not known.placed(target, replica):
                    _stop(known)
                    known = None
                self._sources[target.name, url] = known or _Source(target, replica, url, self._of(target.engine))
        for gone in before.values():
            _stop(gone)
        if self._running:
            self._begin()

    def start(self) -> None:
        """Begin asking on the running event loop."""
        self._running = True
        self._begin()

    async def aclose(self) -> None:
        """Stop asking; an answer that is under way is not waited for."""
        self._running = False
        tasks = [source.task for source in self._sources.values() if source.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def standings(self) -> Iterator[Standing]:
        """How the scraping of each replica stands."""
        for source in self._sources.values():
            yield Standing(
                target=source.target.name,
                replica=source.replica,
                url=source.url,
                reading=source.reading,
                connect_s=source.connect_s,
                failures=source.failures,
                trouble=source.trouble,
            )

    def _of(self, engine: Engine | None) -> Mapping[bytes, Wanted]:
        return {} if engine is None else self._wanted[engine]

    def _begin(self) -> None:
        for source in self._sources.values():
            if source.task is None:
                source.task = asyncio.create_task(self._watch(source), name=f"scrape-{source.target.name}")
                source.task.add_done_callback(partial(self._ended, source))

    def _ended(self, source: _Source, task: asyncio.Task[None]) -> None:
        """The supervisor: only a mistake of ours ends a task that nobody cancelled."""
        if task.cancelled() or source.task is not task:
            return
        _log.error("reading the metrics of `%s` failed", source.target.name, exc_info=task.exception())
        source.task = None
        asyncio.get_running_loop().call_later(LONGEST_PAUSE_S, self._again, source)

    def _again(self, source: _Source) -> None:
        if self._running and self._sources.get((source.target.name, source.url)) is source:
            self._begin()

    async def _watch(self, source: _Source) -> None:
        open_fetch = await self._opener()
        fetch = open_fetch()
        try:
            await asyncio.sleep(self._draw() * self._every_s)
            while True:
                pause_s = await self._turn(source, fetch)
                await asyncio.sleep(pause_s)
        finally:
            await fetch.aclose()

    async def _opener(self) -> OpenFetch:
        """Made in a thread: the client takes a tenth of a second to import, which nobody's tokens should wait for."""
        async with self._opening:
            if self._open_fetch is None:
                self._open_fetch = await asyncio.to_thread(_http_client)
            return self._open_fetch

    async def _turn(self, source: _Source, fetch: Fetch) -> float:
        """Ask once; returns how long to wait then."""
        try:
            reading = await _ask(source, fetch, self._clock)
        except ScrapeFailed as error:
            self._failed(source, error)
            return self._pause_s(source, settled=error.settled)
        source.connect_s = fetch.connect_s
        self._succeeded(source, reading)
        return self._pause_s(source, settled=False)

    def _succeeded(self, source: _Source, reading: EngineReading | None) -> None:
        if source.failures >= SILENT_AFTER:
            _log.info("`%s` publishes its metrics again: %s", source.target.name, source.url)
        source.failures, source.trouble = 0, ""
        if reading is not None:
            source.reading = reading
            self._on_reading(source.target.name, source.url, reading)

    def _failed(self, source: _Source, error: ScrapeFailed) -> None:
        source.failures += 1
        source.trouble = str(error)
        if source.failures == SILENT_AFTER:
            _log.warning("no metrics of `%s`: %s", source.target.name, error)

    def _pause_s(self, source: _Source, *, settled: bool) -> float:
        usual_s = max(self._every_s, APART_S * len(self._sources))
        jitter = 1.0 + JITTER * (2.0 * self._draw() - 1.0)
        if not source.failures:
            return usual_s * jitter
        longest_s = SETTLED_PAUSE_S if settled and source.failures >= SILENT_AFTER else LONGEST_PAUSE_S
        return jitter * max(usual_s, min(longest_s, usual_s * 2.0 ** min(source.failures, 16)))


async def _ask(source: _Source, fetch: Fetch, clock: Callable[[], float]) -> EngineReading | None:
    """One question; of several places where the engine may have its metrics, the one that had them is kept."""
    paths = source.dialect.paths
    secret = source.target.api_key
    for turn in range(len(paths)):
        index = (source.path + turn) % len(paths)
        page = Page(source.dialect, source.wanted)
        url = metrics_url(source.url, paths[index])
        try:
            status = await fetch.get(url, None if secret is None else secret.reveal(), page.feed)
            if status == 200:
                source.path = index
                return page.reading(clock())
        except NotUnderstood as error:
            raise ScrapeFailed(f"{url}: {error} (hint: {source.dialect.hint})", settled=True) from None
        if status not in _ELSEWHERE:
            break
    settled = status in _ELSEWHERE or status in (401, 403)
    raise ScrapeFailed(f"{url} answers {status} (hint: {source.dialect.hint})", settled=settled)


def _http_client() -> OpenFetch:
    module = importlib.import_module("proxy.signals.scrape_client")
    opener: OpenFetch = module.opener(TIMEOUT_S, MAX_PAGE_BYTES)
    return opener


def _tells(target: Target) -> bool:
    return target.lane is Lane.DEDICATED and target.engine in DIALECTS


def _stop(source: _Source) -> None:
    if source.task is not None:
        source.task.cancel()
        source.task = None
