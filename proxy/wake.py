"""Wakes dedicated deployments that sleep, and sees when they are up.

Theory of operation
-------------------
A deployment that is scaled to zero, or still loads its model, refuses connections or answers 503. Requests go to shared
targets meanwhile, where the policy lets them: all that is done here is in the background. Whoever could not be served
there says that the target is *needed*. Then somebody asks at its URLs (`GET .../models`); where nobody is, the hook of
the policy is called, once for all proxies: whoever claims it in the store does, for `AGAIN_S` or until the target is
up. It is tried again a few times if it fails.

From then on its URLs are asked every `EVERY_S`, so that no request has to find out whether it is up yet: breakers are
held open while nobody answers, and closed by the first answer. How much is sent to a replica that has just come is not
decided here (`signals/warmth.py`). When nobody has needed the target for `WANTED_S` it is not asked any more.

Everything that blocks is done in threads; nothing here is ever waited for by a request.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
import random
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from proxy.meters.kubernetes import Cluster, ScaleRefused
from proxy.policy.model import Target
from proxy.policy.wake import HttpWake, Wake

_log = logging.getLogger(__name__)
T = TypeVar("T")

EVERY_S = 1.0
LULL_S = 5.0
"""After a target was needed and was up, how long it is not asked whether it still is."""
WANTED_S = 300.0
AGAIN_S = 600.0
TRIES = 4
BACKOFF_S = 1.0
TIMEOUT_S = 5.0
_THREADS = 4
_JITTER = 0.5


class WakeFailed(Exception):
    """A hook was not heard; the text says why and holds no secret."""


class Found(Protocol):
    """Told what was found at a target's URL: `signals.Tracker.found`."""

    def __call__(self, target: str, url: str, now: float, *, present: bool) -> None: ...


class Claims(Protocol):
    """How proxies agree on who does what is to be done once: `metering.Metering`."""

    async def claim(self, name: str, for_s: float) -> bool: ...

    async def release(self, name: str) -> None: ...


def call(wake: Wake) -> None:
    """Call a hook; blocks for some seconds at most. Raises WakeFailed."""
    if not isinstance(wake, HttpWake):
        try:
            Cluster().scale_up(wake)
        except ScaleRefused as error:
            raise WakeFailed(str(error)) from None
        return
    try:
        status = _status(wake.method, wake.url)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise WakeFailed(f"no answer: {error or type(error).__name__}") from None
    if not 200 <= status < 300:
        raise WakeFailed(f"it answers {status}")


def is_up(target: Target, url: str) -> bool:
    """Whether an engine answers at `url`; blocks for some seconds at most.

    One that has no list of models, or not for us, is up as well: what stands in front of a sleeper answers 502 to 504.
    """
    try:
        key = None if target.api_key is None else target.api_key.reveal()
        return _status("GET", f"{url.rstrip('/')}/models", key) < 500
    except (OSError, http.client.HTTPException, ValueError):
        return False


def _status(method: str, url: str, key: str | None = None) -> int:
    parts = urlsplit(url)
    assert parts.hostname is not None, "the compiler lets no other URL pass"
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=TIMEOUT_S, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
    headers = {"Accept": "*/*"} | ({} if key is None else {"Authorization": f"Bearer {key}"})
    try:
        connection.request(method, parts.path or "/", b"" if method != "GET" else None, headers)
        return connection.getresponse().status
    finally:
        connection.close()


class _Sleeper:
    """A target that can be woken."""

    __slots__ = ("rests_until", "target", "task", "wanted_at")

    def __init__(self, target: Target) -> None:
        self.target = target
        self.task: asyncio.Task[None] | None = None
        self.wanted_at = self.rests_until = 0.0


class Waker:
    """See the module's text. `call` and `is_up` are how hooks are called and engines asked, in a thread."""

    def __init__(
        self,
        targets: Iterable[Target],
        found: Found,
        claims: Claims,
        *,
        call: Callable[[Wake], None] = call,
        is_up: Callable[[Target, str], bool] = is_up,
        every_s: float = EVERY_S,
        backoff_s: float = BACKOFF_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._found, self._claims = found, claims
        self._hook, self._is_up = call, is_up
        self._every_s, self._backoff_s = every_s, backoff_s
        self._clock = clock
        self._sleepers: dict[str, _Sleeper] = {}
        self._threads: ThreadPoolExecutor | None = None
        self.calls: Counter[tuple[str, str]] = Counter()
        """How often hooks were called, by target and outcome: `heard` or `failed`."""
        self.adopt(targets)

    def adopt(self, targets: Iterable[Target]) -> None:
        """Follow another policy; who is being woken still is, unless it is gone."""
        before, self._sleepers = self._sleepers, {}
        for target in targets:
            if target.wake is not None:
                sleeper = before.pop(target.name) if target.name in before else _Sleeper(target)
                sleeper.target = target
                self._sleepers[target.name] = sleeper
        for gone in before.values():
            if gone.task is not None:
                gone.task.cancel()

    def start(self) -> None:
        """Wake who is needed from now on, on the running event loop."""
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="wake")

    async def aclose(self) -> None:
        """Leave off; a hook that is being called is not waited for."""
        tasks = [sleeper.task for sleeper in self._sleepers.values() if sleeper.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    def needs(self, target: str, now: float) -> None:
        """A request wanted the target, and nobody answered there."""
        sleeper = self._sleepers.get(target)
        if sleeper is None or self._threads is None:
            return
        sleeper.wanted_at = now
        if sleeper.task is None and now >= sleeper.rests_until:
            sleeper.task = asyncio.create_task(self._wake(sleeper), name=f"wake-{target}")
            sleeper.task.add_done_callback(lambda task: self._ended(sleeper, task))

    def _ended(self, sleeper: _Sleeper, task: asyncio.Task[None]) -> None:
        sleeper.task = None
        sleeper.rests_until = self._clock() + LULL_S
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("waking `%s` came to an end: %s", sleeper.target.name, error, exc_info=error)

    async def _wake(self, sleeper: _Sleeper) -> None:
        """From the need to the first answer."""
        began_at, called_at = self._clock(), None
        while not await self._look(sleeper.target):
            now = self._clock()
            if now - sleeper.wanted_at >= WANTED_S:
                _log.warning(
                    "`%s` is not up after %.0f s, and not needed any more", sleeper.target.name, now - began_at
                )
                return
            if called_at is None or now - called_at >= AGAIN_S:
                called_at = now
                await self._call(sleeper.target)
            await asyncio.sleep(self._every_s)
        if called_at is not None:
            _log.info("`%s` is up, %.0f s after it was needed", sleeper.target.name, self._clock() - began_at)
            await self._claims.release(_claim(sleeper.target))

    async def _look(self, target: Target) -> bool:
        """Whether any replica answers; what was found of each is told."""
        answers = await asyncio.gather(*(self._in_thread(self._is_up, target, url) for url in target.urls))
        for url, present in zip(target.urls, answers, strict=True):
            self._found(target.name, url, self._clock(), present=present)
        return any(answers)

    async def _call(self, target: Target) -> None:
        assert target.wake is not None, "it can be woken, or is no sleeper"
        if not await self._claims.claim(_claim(target), AGAIN_S):
            _log.info("`%s` sleeps; another proxy wakes it", target.name)
            return
        for number in range(TRIES):
            try:
                await self._in_thread(self._hook, target.wake)
            except WakeFailed as error:
                self.calls[target.name, "failed"] += 1
                _log.warning("`%s` sleeps, and its wake hook failed: %s", target.name, error)
            else:
                self.calls[target.name, "heard"] += 1
                _log.info("`%s` sleeps: its wake hook was called", target.name)
                return
            await asyncio.sleep(self._backoff_s * 2**number * random.uniform(1.0, 1.0 + _JITTER))  # noqa: S311
        await self._claims.release(_claim(target))

    def _in_thread(self, do: Callable[..., T], *given: object) -> Awaitable[T]:
        assert self._threads is not None, "it runs"
        return asyncio.get_running_loop().run_in_executor(self._threads, do, *given)


def _claim(target: Target) -> str:
    return f"wake:{target.name}"
