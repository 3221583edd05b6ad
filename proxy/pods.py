"""The policy as it is served: with the replicas of its targets that were found at the places it names.

Theory of operation
-------------------
What was found becomes a snapshot of its own, and whoever serves is told to adopt it, as after a reload. A policy that
is new itself has the replicas put in before its first request. Until a place has answered, its Service stands for them.
Making a large policy ready takes tens of milliseconds, so it is done in a thread, and anew if it is overtaken.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import Metric

from proxy.discovery.discovery import Discovery, Found
from proxy.policy.found import with_found
from proxy.policy.model import Snapshot, Target
from proxy.routing.decide import Router
from proxy.telemetry.metrics import gauge

_log = logging.getLogger(__name__)

Find = Callable[[Iterable[Target], Callable[[], None]], Discovery]


class Pods:
    """See the module's text. `serve` is called on the event loop, with a policy and what was found of its replicas."""

    def __init__(self, snapshot: Snapshot, serve: Callable[[Router], None], *, find: Find = Discovery) -> None:
        self._written = self._served = snapshot
        self._serve = serve
        self._urls: Mapping[str, tuple[str, ...]] = {}
        self._discovery = find(snapshot.targets.values(), self._changed)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look; returns once every place has answered and is served, or after a moment."""
        await self._discovery.start()
        await self._catch_up()

    async def aclose(self) -> None:
        """Leave off."""
        await self._discovery.aclose()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def ready(self, snapshot: Snapshot) -> Router:
        """A policy with what is known of its replicas, to be adopted; for any thread."""
        known = self._served.targets
        same = {
            name for name, one in snapshot.targets.items() if name in known and known[name].discovery == one.discovery
        }
        return Router(with_found(snapshot, {name: urls for name, urls in self._urls.items() if name in same}))

    def adopt(self, router: Router) -> None:
        """Serve by another policy from now on."""
        self._written = router.snapshot
        self._discovery.adopt(router.snapshot.targets.values())
        snapshot = self._placed()
        self._follow(router if snapshot == router.snapshot else Router(snapshot))

    def found(self) -> Mapping[str, Found | str]:
        """By target whose replicas are found, what is known of them, or in words why nothing is yet."""
        return {**self._discovery.unanswered(), **self._discovery.found()}

    def metrics(self) -> Iterator[Metric]:
        """By target whose replicas are found; before the first answer there is no age."""
        now, found = time.monotonic(), self._discovery.found()
        ups = [({"target": name}, float(name in found and found[name].up)) for name in self._discovery.targets]
        yield gauge("discovery_up", "Whether the source of the target's replicas answers", *ups)
        ages = [({"target": name}, max(0.0, now - one.as_of)) for name, one in found.items()]
        yield gauge("discovery_age_seconds", "Since the source last confirmed the target's replicas", *ages)

    def _changed(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._catch_up(), name="pods")
            self._task.add_done_callback(_ended)

    async def _catch_up(self) -> None:
        while (snapshot := self._placed()) != self._served:
            router = await asyncio.to_thread(Router, snapshot)
            if snapshot == self._placed():
                self._follow(router)

    def _placed(self) -> Snapshot:
        self._urls = {name: one.urls for name, one in self._discovery.found().items()}
        return with_found(self._written, self._urls)

    def _follow(self, router: Router) -> None:
        snapshot = router.snapshot
        before, self._served = self._served, snapshot
        self._serve(router)
        for name, target in snapshot.targets.items():
            known = before.targets.get(name)
            if target.discovery is not None and known is not None and known.urls != target.urls:
                _log.info("replicas found of `%s`: %d", name, target.replicas)


def _ended(task: asyncio.Task[None]) -> None:
    """Only a mistake of ours ends it before its time; the next change begins it anew."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("the replicas that were found are not served", exc_info=error)
