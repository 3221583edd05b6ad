"""Keeps the replicas of targets whose policy says where they are listed, as long as it runs.

Theory of operation
-------------------
Each source, a Service or a name in the DNS, is followed by one task, however many targets have it. A source that fails
keeps what it said last: nothing is known to be gone because nobody says that it is there. A task that dies of a mistake
of ours is begun anew, and the mistake is logged.

Whoever is told of changes is told `TOGETHER_S` after the first of them, once for all that came meanwhile: pods of a
deployment come and go together, and another policy is adopted for it each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from proxy.cluster.asking import Asking
from proxy.cluster.names import Addresses, lookup
from proxy.discovery.api import Api
from proxy.discovery.api_client import HttpApi
from proxy.discovery.dns_source import EVERY_S, DnsSource
from proxy.discovery.kubernetes_source import USUAL, KubernetesSource, Timings
from proxy.discovery.listing import Listing
from proxy.discovery.standing import Standing
from proxy.policy.discovery import Discovery as Where
from proxy.policy.discovery import DnsService
from proxy.policy.model import Target

_log = logging.getLogger(__name__)

TOGETHER_S = 0.05
AGAIN_S = 10.0
_ASKING = Asking("discovery")
_Key = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is known of the replicas of one target.

    `urls` are those that can be used, sorted: metrics name a replica by its place, and all proxies have to mean the
    same one. `terminating` and `unready` are how many more pods there are. `as_of` is when the source last confirmed
    it, on the monotonic clock; `up` says that the source answers now, and `trouble` what is wrong, in words.
    """

    urls: tuple[str, ...]
    terminating: int
    unready: int
    as_of: float
    up: bool
    trouble: str


class _Following:
    """A source and its task."""

    __slots__ = ("source", "task")

    def __init__(self, source: DnsSource | KubernetesSource) -> None:
        self.source = source
        self.task: asyncio.Task[None] | None = None


class Discovery:
    """See the module's text. `changed` is called on the event loop when the URLs of some target are others."""

    def __init__(
        self,
        targets: Iterable[Target],
        changed: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        lookup: Callable[[str], Addresses] = lookup,
        api: Api | None = None,
        dns_every_s: float = EVERY_S,
        timings: Timings = USUAL,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._changed = changed
        self._clock = clock
        self._lookup = lookup
        self._api = api or HttpApi()
        self._dns_every_s, self._timings = dns_every_s, timings
        self._draw = draw
        self._where: dict[str, Where] = {}
        self._sources: dict[_Key, _Following] = {}
        self._listings: dict[str, Listing] = {}
        self._told: dict[str, frozenset[str]] = {}
        self._unread: set[_Key] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._telling: asyncio.TimerHandle | None = None
        self._running = False
        self.adopt(targets)

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of those whose replicas are found here."""
        return tuple(self._where)

    def found(self) -> Mapping[str, Found]:
        """By target; those are absent whose source has not answered yet."""
        self._read()
        return {name: self._of(name, listing) for name, listing in self._listings.items()}

    def unanswered(self) -> Mapping[str, str]:
        """By target whose source has not answered yet, what is wrong with it, in words; empty before it failed."""
        self._read()
        silent = self._where.keys() - self._listings.keys()
        return {name: self._sources[_key(self._where[name])].source.standing.trouble for name in silent}

    async def start(self, first_answer_s: float = 2.0) -> None:
        """Begin on the running event loop, and wait for a first answer of each source, but not for longer than that."""
        self._running = True
        self._begin()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(first_answer_s):
                for one in self._sources.values():
                    await one.source.standing.answered.wait()

    async def aclose(self) -> None:
        """Stop; a resolver that is being asked is not waited for."""
        self._running = False
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        for one in self._sources.values():
            self._end(one)
        await asyncio.gather(*self._ending, return_exceptions=True)

    def adopt(self, targets: Iterable[Target]) -> None:
        """Follow another policy: sources that stay keep what they know, and their watch."""
        known, self._where = self._where, {one.name: one.discovery for one in targets if one.discovery is not None}
        stay = {name for name, where in self._where.items() if known.get(name) == where}
        before, self._sources = self._sources, {}
        for where in self._where.values():
            key = _key(where)
            if key not in self._sources:
                self._sources[key] = before.pop(key) if key in before else _Following(self._source(key))
        for gone in before.values():
            self._end(gone)
        self._listings = {name: listing for name, listing in self._listings.items() if name in stay}
        self._told = {name: urls for name, urls in self._told.items() if name in stay}
        if self._running:
            self._begin()
            for key in self._sources:
                self._heard(key)

    def _source(self, key: _Key) -> DnsSource | KubernetesSource:
        heard = partial(self._heard, key)
        if len(key) == 1:
            return DnsSource(
                *key,
                heard,
                threads=_ASKING,
                lookup=self._lookup,
                every_s=self._dns_every_s,
                clock=self._clock,
                draw=self._draw,
            )
        namespace, service = key
        return KubernetesSource(
            namespace,
            service,
            heard,
            api=self._api,
            timings=self._timings,
            clock=self._clock,
            draw=self._draw,
        )

    def _begin(self) -> None:
        for key, one in self._sources.items():
            if one.task is None:
                one.task = asyncio.create_task(one.source.run(), name=f"discovery-{'/'.join(key)}")
                one.task.add_done_callback(partial(self._ended, key, one))

    def _end(self, one: _Following) -> None:
        task, one.task = one.task, None
        if task is not None:
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def _ended(self, key: _Key, one: _Following, task: asyncio.Task[None]) -> None:
        """The supervisor: only a mistake of ours ends a task that nobody cancelled."""
        if task.cancelled() or one.task is not task:
            return
        _log.error("following `%s` failed", "/".join(key), exc_info=task.exception())
        one.source.standing.failed("following it failed (hint: the log says how)")
        one.task = None
        asyncio.get_running_loop().call_later(AGAIN_S, self._again)

    def _again(self) -> None:
        if self._running:
            self._begin()

    def _heard(self, key: _Key) -> None:
        """A source may say something else."""
        self._unread.add(key)
        if self._running and self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(TOGETHER_S, self._tell)

    def _tell(self) -> None:
        """Say that there are other replicas; a pod that was away for less than the pause was not."""
        self._telling = None
        self._read()
        now = {name: listing.urls for name, listing in self._listings.items()}
        if any(self._told.get(name) != urls for name, urls in now.items()):
            self._told |= now
            self._changed()

    def _read(self) -> None:
        """See what the sources say that may say something else."""
        for name, where in self._where.items():
            if _key(where) in self._unread:
                self._look(name, where)
        self._unread.clear()

    def _look(self, name: str, where: Where) -> None:
        before = self._listings.pop(name, None)
        listing = self._sources[_key(where)].source.listing(where)
        if listing is not None:
            self._listings[name] = listing
            if listing.trouble and (before is None or before.trouble != listing.trouble):
                _log.warning("the replicas of `%s`: %s", name, listing.trouble)

    def _of(self, name: str, listing: Listing) -> Found:
        standing: Standing = self._sources[_key(self._where[name])].source.standing
        return Found(
            urls=tuple(sorted(listing.urls)),
            terminating=listing.terminating,
            unready=listing.unready,
            as_of=standing.as_of,
            up=standing.up,
            trouble=standing.trouble or listing.trouble,
        )


def _key(where: Where) -> _Key:
    """What tells sources apart: targets with other ports and paths may have the same."""
    return (where.host,) if isinstance(where, DnsService) else (where.namespace, where.service)
