"""One process's share of serving: a compiled policy, a bound socket for each port, and both applications behind them.

Theory of operation
-------------------
A single process and each of several workers serve in exactly this way; `run` and `workers` differ in what they put
around it. Signals belong to the data port's server, and end it in the stages of `drain.py`: from the first one on
readiness is off and each reply says `Connection: close`; then the listener closes, once nobody waits there; then the
connections that nobody uses, and the others as they end. What has not ended in time is answered by an error in its own
protocol. After that the meters tell the store of it all. No signal is raised again afterwards: whoever called goes on
to stop the store in its turn.

The policy is followed for as long as it is served (`reload.py`). The address to listen on is settled at the start for
good; so a policy under which nobody needs a key is not adopted where others can reach the port.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import uvicorn

from proxy.api.server import Leaving, ReceivingLimits, guarded_protocol
from proxy.app import Spillway
from proxy.drain import Drain
from proxy.meters.prices import PriceList, PriceListUnreadable
from proxy.meters.store import StoreUrlInvalid
from proxy.policy.compile import check_source
from proxy.policy.model import Price, Snapshot
from proxy.policy.problem import PolicyError, Problem
from proxy.policy.source import Source, read_source
from proxy.policy.watch import Watch
from proxy.reload import SWITCH_S, Folder, Follower, Reload
from proxy.routing.decide import Router
from proxy.settings import Settings
from proxy.telemetry.decision_log import opened

BACKLOG = 4096
KEEP_ALIVE_S = 75
"""Longer than the idle timeout of the usual load balancer (60 s), which must be the first to close."""
LINGER_S = 6.0
"""How long a connection that nobody uses is kept at the end: its client may just have been about to ask. The clients of
OpenAI and Anthropic use none again that was idle for 5 s.
"""
ACCEPT_S = 0.5
"""How long connections are accepted that wait at the listener when it is to close."""
FAREWELL_S = 1.0
"""How long clients may take to read the end of what was cut."""
TICK_S = 0.1
"""As uvicorn's own: every tenth one sets the clock of the `date` header."""
ADMIN_GRACE_S = 2
COLLECTOR = (2_000, 50, 1_000)
"""How many new objects, and collections of the generation before, until each generation is collected."""
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class StartError(Exception):
    """Why the server does not start; its text is for the terminal."""


def log_to_stderr() -> None:
    """The process's own log; requests have theirs, on standard output."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of every request, and engines are asked each second
    server = logging.getLogger("uvicorn.error")
    server.setLevel(logging.WARNING)
    # It counts its own tasks as cut when draining ends, which is none of ours: each of those has its log line.
    server.addFilter(lambda record: not str(record.msg).startswith("Cancel "))


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy and the texts that it was compiled from."""

    source: Source
    snapshot: Snapshot


def load(settings: Settings) -> Loaded:
    """The compiled policy; its problems, all of them, become the `StartError`. The decision log has to be writable."""
    try:
        source = read_source(settings.policy)
        loaded = Loaded(source, compiled(source))
    except PolicyError as error:
        raise StartError(f"{error}\nnot started: the policy `{settings.policy}` has mistakes") from None
    except PriceListUnreadable as error:
        raise StartError(f"not started: {error}") from None
    try:
        opened(settings)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        message = f"not started: the decision log `{settings.decision_log}` cannot be written: {reason}"
        raise StartError(message) from None
    return loaded


def compiled(source: Source) -> Snapshot:
    """What the texts mean in this process's environment. Raises `PolicyError` and `PriceListUnreadable`."""
    return check_source(source, env=os.environ, price_of=_price_of).snapshot


def may_listen(snapshot: Snapshot, host: str) -> bool:
    """Whether others may reach us at `host`: without keys nobody may, unless the policy says `auth: none`."""
    return bool(snapshot.tenants) or snapshot.open_to_all or host in _LOOPBACK


def servable(source: Source, host: str) -> Snapshot:
    """What the texts mean, if a server that listens at `host` may serve it. Raises as `compiled` does."""
    snapshot = compiled(source)
    if not may_listen(snapshot, host):
        message = f"without `tenants`, anybody who reaches `{host}` could spend your money"
        raise PolicyError((Problem(source.path, 0, 0, message, "keep `tenants:`, or say `auth: none`"),))
    return snapshot


def following(
    loaded: Loaded,
    settings: Settings,
    host: str,
    follower: Follower[Router],
    clock: Callable[[], float] = time.monotonic,
    ready: Callable[[Snapshot], Router] = Router,
) -> Reload[Router]:
    """What keeps `follower`, which listens at `host`, up to date with the policy's texts, once each is made `ready`."""

    def prepare(source: Source) -> Router:
        return ready(servable(source, host))

    return Reload(Watch(loaded.source, Folder(settings.policy)), prepare, follower, clock=clock)


@contextlib.contextmanager
def bound(host: str, port: int, *, shared: bool = False) -> Iterator[socket.socket]:
    """An address to listen on, taken before anything else is started; `shared` with other processes."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise StartError(f"not started: cannot listen on {host}:{port}: {error.strerror or error}") from None
        if not shared:
            # From here on nobody is turned away: who comes early waits until the server takes the socket over.
            listener.listen(BACKLOG)
        yield listener


async def serve(loaded: Loaded, settings: Settings, store_url: str, data: socket.socket, admin: socket.socket) -> None:
    """Both ports, until the data port's server is told to stop."""
    try:
        spillway = Spillway(loaded.snapshot, settings, store_url)
    except StoreUrlInvalid as error:
        raise StartError(f"not started: {error}") from None
    limits, leaving = ReceivingLimits(), Leaving()
    common = {
        "ws": "none",
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
    }
    front = _Front(
        uvicorn.Config(
            spillway.data,
            timeout_keep_alive=KEEP_ALIVE_S,
            backlog=BACKLOG,
            http=guarded_protocol(spillway.deadlines, limits, spillway.data, leaving),
            **common,  # type: ignore[arg-type]
        ),
        spillway,
        leaving,
        Drain(settings.drain_delay_s, settings.drain_s),
    )
    back = _Back(
        uvicorn.Config(
            spillway.admin,
            timeout_graceful_shutdown=ADMIN_GRACE_S,
            http=guarded_protocol(spillway.deadlines, limits),
            **common,  # type: ignore[arg-type]
        )
    )
    reload = following(loaded, settings, data.getsockname()[0], spillway, ready=spillway.ready)
    _settle_garbage()
    sys.setswitchinterval(SWITCH_S)
    # SIGTERM is heard from the start to the last push to the store, which it would otherwise end half-way.
    with heard(front.told, signal.SIGTERM):
        async with spillway:
            reload.start()
            admin_task = asyncio.create_task(back.serve(sockets=[admin]))
            with heard(front.told, signal.SIGINT):
                await front.serve(sockets=[data])
            reload.stop()
            spillway.board.close()
            back.should_exit = True
            await admin_task


def _settle_garbage() -> None:
    """Keep the collector off what was built to stay: a full collection of it stops every stream for 60 to 130 ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR)


@contextlib.contextmanager
def heard(told: Callable[[int], None], number: int) -> Iterator[None]:
    """Let `told` hear the signal, in the main thread."""
    before = signal.signal(number, lambda number, _: told(number))
    try:
        yield
    finally:
        signal.signal(number, before)


class DeafServer(uvicorn.Server):
    """A server that leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Front(DeafServer):
    """The data port, and its end."""

    def __init__(self, config: uvicorn.Config, spillway: Spillway, leaving: Leaving, drain: Drain) -> None:
        super().__init__(config)
        self._spillway = spillway
        self._leaving = leaving
        self._drain = drain

    def told(self, number: int) -> None:
        """A signal has come."""
        self._drain.told(number, time.monotonic())
        self._spillway.drain(self._drain.waits_until)
        self._leaving.announced = True

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or time.monotonic() >= self._drain.accepts_until

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """In place of uvicorn's, which closes connections whose request has not been read yet."""
        await self._stop_accepting(sockets or [])
        await self._ended(lambda: self._drain.cut_at)
        self._spillway.data.cancel()
        for task in self.server_state.tasks:
            task.cancel()
        gone_at = time.monotonic() + FAREWELL_S
        await self._ended(lambda: gone_at)

    async def _stop_accepting(self, sockets: list[socket.socket]) -> None:
        """Whoever has connected by now is taken in: closing the listener would reset them."""
        waiting = select.poll()
        for one in sockets:
            waiting.register(one, select.POLLIN)
        until = time.monotonic() + ACCEPT_S
        while waiting.poll(0) and time.monotonic() < until:  # noqa: ASYNC110  (the loop accepts, and tells nobody)
            await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        for one in sockets:
            one.close()

    async def _ended(self, until: Callable[[], float]) -> None:
        """Wait for the end of every connection, until the given time at most."""
        state, counter = self.server_state, 0
        while (state.connections or state.tasks) and (now := time.monotonic()) < until():
            self._leaving.idle_s = LINGER_S if self._drain.is_patient(now) else 0.0
            await super().on_tick(counter)
            await asyncio.sleep(TICK_S)
            counter += 1


class _Back(DeafServer):
    """The admin port."""


@functools.cache
def _prices() -> PriceList:
    return PriceList.load()


def _price_of(provider: str, model: str) -> Price | None:
    return _prices().price_of(provider, model)
