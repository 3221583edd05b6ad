"""Follows the addresses of one headless Service: its name is resolved about once a second, in a thread."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import Executor

from proxy.cluster.names import Addresses, NotResolved, lookup
from proxy.discovery.known_addresses import NOBODY, KnownAddresses
from proxy.discovery.listing import Listing, of_addresses
from proxy.discovery.standing import Standing
from proxy.policy.discovery import Discovery, DnsService

EVERY_S = 1.0
ANSWER_S = 5.0
JITTER = 0.1


class DnsSource:
    """One name, for all targets that have it. `heard` is called when it may say something else."""

    def __init__(
        self,
        host: str,
        heard: Callable[[], None],
        *,
        threads: Executor,
        lookup: Callable[[str], Addresses] = lookup,
        every_s: float = EVERY_S,
        answer_s: float = ANSWER_S,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._host = host
        self._heard = heard
        self._threads = threads
        self._lookup = lookup
        self._every_s, self._answer_s = every_s, answer_s
        self._draw = draw
        self._known = KnownAddresses()
        self._gone = ""
        self.standing = Standing(f"the DNS name `{host}`", clock)

    def listing(self, where: Discovery) -> Listing | None:
        """What is known of the replicas of a target of this name; None before the first answer."""
        assert isinstance(where, DnsService), "its targets say which name"
        addresses = self._known.addresses
        if addresses is None:
            return None
        return of_addresses(addresses, where) if addresses else Listing(trouble=self._gone)

    async def run(self) -> None:
        """Follow it, until cancelled."""
        while True:
            await self._turn()
            await asyncio.sleep(self._every_s * (1.0 + JITTER * (2.0 * self._draw() - 1.0)))

    async def _turn(self) -> None:
        """Ask once. A resolver that hangs is waited for: asking it again would only take another thread."""
        asking = asyncio.get_running_loop().run_in_executor(self._threads, self._answer)
        try:
            while not (await asyncio.wait({asking}, timeout=self._answer_s))[0]:
                self.standing.failed(f"no answer within {self._answer_s:g} s")
        finally:
            asking.cancel()
        answer = asking.result()
        if isinstance(answer, Addresses):
            self._take(answer)
        elif answer.gone:
            self._gone = f"{answer} (hint: is it a headless Service, and does anything of it run?)"
            self._take(NOBODY)
        else:
            self.standing.failed(str(answer))

    def _answer(self) -> Addresses | NotResolved:
        try:
            return self._lookup(self._host)
        except NotResolved as error:
            return error

    def _take(self, found: Addresses) -> None:
        first = self._known.addresses is None
        changed = self._known.answer(found)
        self.standing.confirmed()
        self.standing.sound()
        if changed or first:
            self._heard()
