"""Follows the EndpointSlices of one Service: a list, then a watch that is taken up again wherever it breaks.

Theory of operation
-------------------
A watch lasts for `watch_s` by our wish, and is then begun anew from the version that was seen last: a connection that
looks alive and is not is noticed a little later, and nothing is missed in between. A break, or an answer of 429 or
5xx, is taken up from that version too, and what is known serves on; every other answer means that the version is of no
use, and everything is listed again.

Each failure doubles the pause before the next try, until a watch has proved itself by an event or by lasting a moment;
one that was at least begun says that the server is well, so the pauses are short ones again. A server that does not
answer at all is tried every two seconds at most, since that costs it nothing and is how soon replicas are right again
when it is back; one that answers that it has too much to do is left alone for longer.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from proxy.cluster.access import endpoint_slices
from proxy.cluster.endpoint_slices import EndpointSlice, EndpointSliceList
from proxy.discovery.api import Api, ApiFailed
from proxy.discovery.backoff import pause_s
from proxy.discovery.followed import Followed, WatchEnded
from proxy.discovery.listing import Listing, of_slices
from proxy.discovery.standing import Standing
from proxy.discovery.watch_lines import NotAWatch, WatchLines
from proxy.policy.discovery import Discovery, KubernetesService

PAGE = 100
"""EndpointSlices asked for at a time; each has a hundred endpoints, as a rule."""
ONCE_BEGUN = 2
"""As how many failures in a row those count at most that came before a watch could be begun."""
_BUSY = {429, 500, 502, 503}
"""Answers that say nothing of the version asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Seconds: until an answer begins, or a page of a list is there; that a watch lasts, and how much longer it is
    waited for; of the pauses; and that a watch lasts before it counts as sound.
    """

    answer_s: float = 5.0
    watch_s: float = 30.0
    grace_s: float = 5.0
    first_pause_s: float = 0.1
    silent_pause_s: float = 2.0
    refused_pause_s: float = 10.0
    sound_s: float = 1.0


USUAL = Timings()


class KubernetesSource:
    """One Service in one namespace, for all targets that have it. `heard` is called when it may say something else."""

    def __init__(
        self,
        namespace: str,
        service: str,
        heard: Callable[[], None],
        *,
        api: Api,
        timings: Timings = USUAL,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._namespace, self._service = namespace, service
        self._heard = heard
        self._timings = timings
        self._draw = draw
        self._api = api
        self._followed = Followed()
        self._in_pages = True
        self._failures = 0
        self.standing = Standing(f"the Service `{service}` in `{namespace}`", clock)

    def listing(self, where: Discovery) -> Listing | None:
        """What is known of the replicas of a target of this Service; None before the first answer."""
        assert isinstance(where, KubernetesService), "its targets say which Service"
        slices = self._followed.slices
        return None if slices is None else of_slices(slices, where, loopback=self._api.is_here)

    async def run(self) -> None:
        """Follow it, until cancelled."""
        while True:
            pause_s = await self._turn()
            await asyncio.sleep(pause_s)

    async def _turn(self) -> float:
        """Watch as long as that goes well; returns how long to wait then."""
        try:
            if self._followed.version is None:
                await self._list()
            await self._watch()
        except ApiFailed as error:
            return self._failed(error)
        return 0.0

    def _failed(self, error: ApiFailed) -> float:
        timings = self._timings
        if error.status is not None and error.status not in _BUSY:
            self._followed.forget()
        self.standing.failed(str(error))
        self._failures += 1
        return pause_s(
            self._failures,
            self._draw(),
            first_s=timings.first_pause_s,
            longest_s=timings.silent_pause_s if error.status is None else timings.refused_pause_s,
            advised_s=error.retry_after_s,
        )

    async def _list(self) -> None:
        """Ask for all there is, a page at a time; in one go if the pages expired before all were read."""
        slices: list[EndpointSlice] = []
        query: dict[str, str | int] = {"limit": PAGE} if self._in_pages else {}
        self._in_pages = True
        while True:
            page = await self._page(query)
            slices += page.items or ()
            if not page.metadata.rest:
                break
            query["continue"] = page.metadata.rest
        self._followed.listed(slices, page.metadata.resource_version)
        self.standing.confirmed()
        self._heard()

    async def _page(self, query: dict[str, str | int]) -> EndpointSliceList:
        try:
            async with asyncio.timeout(self._timings.answer_s):
                body = await self._api.get(endpoint_slices(self._namespace, self._service, **query))
            page = msgspec.json.decode(body, type=EndpointSliceList)
        except TimeoutError:
            raise ApiFailed(f"no answer from the API server within {self._timings.answer_s:g} s") from None
        except msgspec.MsgspecError as error:
            raise ApiFailed(f"the API server's answer cannot be read: {error}") from None
        except ApiFailed as error:
            self._in_pages = not (error.status == 410 and "continue" in query)
            raise
        if not page.metadata.resource_version:
            raise ApiFailed("the API server's answer cannot be read: it is a list without a version")
        return page

    async def _watch(self) -> None:
        """Take in what changes until the server ends the watch when it was to."""
        timings, loop = self._timings, asyncio.get_running_loop()
        query: dict[str, str | int] = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._followed.version or "",
            "timeoutSeconds": max(1, round(timings.watch_s * (0.75 + 0.25 * self._draw()))),
        }
        sound: asyncio.TimerHandle | None = None
        began = loop.time()
        try:
            async with asyncio.timeout(timings.answer_s) as deadline:
                async with self._api.watch(endpoint_slices(self._namespace, self._service, **query)) as pieces:
                    deadline.reschedule(loop.time() + timings.watch_s + timings.grace_s)
                    self._failures = min(self._failures, ONCE_BEGUN)
                    sound = loop.call_later(timings.sound_s, self._sound)
                    lines = WatchLines()
                    async for piece in pieces:
                        self._take(lines, piece)
        except TimeoutError:
            raise ApiFailed("the API server neither says anything nor ends the watch") from None
        except NotAWatch as error:
            self._followed.forget()
            raise ApiFailed(f"the API server's answer cannot be read: {error}") from None
        except WatchEnded as error:
            raise ApiFailed(str(error), status=error.status) from None
        finally:
            if sound is not None:
                sound.cancel()
        if loop.time() - began < timings.sound_s:
            raise ApiFailed("the API server ends the watch before its time")
        self._sound()

    def _take(self, lines: WatchLines, piece: bytes) -> None:
        """Take in events; whoever is told of them is told once, and also if the last is an error."""
        changed = False
        try:
            for event in lines.feed(piece):
                changed |= self._followed.apply(event)
                self._sound()
        finally:
            if changed:
                self._heard()

    def _sound(self) -> None:
        self._failures = 0
        self.standing.confirmed()
        self.standing.sound()
