"""One process's share of serving: a compiled policy, a bound socket for each port, and both applications behind them.

Theory of operation
-------------------
A single process and each of several workers serve in exactly this way; `run` and `workers` differ in what they put
around it. Signals belong to the data port's server. SIGTERM, which an orchestrator sends, lets streams finish within
`Settings.drain_s`; SIGINT comes from somebody at a terminal and leaves them `INTERRUPT_DRAIN_S`. What has not ended by
then is answered by an error in its own protocol. Neither is raised again afterwards: whoever called goes on to stop the
store in its turn.

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
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

import uvicorn

from proxy.api.server import ReceivingLimits, guarded_protocol
from proxy.app import Spillway
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
INTERRUPT_DRAIN_S = 2
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
) -> Reload[Router]:
    """What keeps `follower`, which listens at `host`, up to date with the policy's texts."""

    def prepare(source: Source) -> Router:
        return Router(servable(source, host))

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
    limits = ReceivingLimits()
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
            timeout_graceful_shutdown=int(settings.drain_s),
            backlog=BACKLOG,
            http=guarded_protocol(spillway.deadlines, limits, spillway.data),
            **common,  # type: ignore[arg-type]
        ),
        spillway,
    )
    back = _Back(
        uvicorn.Config(
            spillway.admin,
            timeout_graceful_shutdown=INTERRUPT_DRAIN_S,
            http=guarded_protocol(spillway.deadlines, limits),
            **common,  # type: ignore[arg-type]
        )
    )
    reload = following(loaded, settings, data.getsockname()[0], spillway)
    _settle_garbage()
    sys.setswitchinterval(SWITCH_S)
    async with spillway:
        reload.start()
        admin_task = asyncio.create_task(back.serve(sockets=[admin]))
        await front.serve(sockets=[data])
        reload.stop()
        back.should_exit = True
        await admin_task


def _settle_garbage() -> None:
    """Keep the collector off what was built to stay: a full collection of it stops every stream for 60 to 130 ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR)


class QuietServer(uvicorn.Server):
    """A server that ends on SIGINT or SIGTERM without raising the signal again."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._captured_signals.clear()


class _Front(QuietServer):
    """The data port. It says that it is draining, and hurries when somebody waits at a terminal."""

    def __init__(self, config: uvicorn.Config, spillway: Spillway) -> None:
        super().__init__(config)
        self._spillway = spillway

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._spillway.health.draining = True
        if sig == signal.SIGINT:
            self.config.timeout_graceful_shutdown = INTERRUPT_DRAIN_S
        super().handle_exit(sig, frame)


class _Back(uvicorn.Server):
    """The admin port: signals are the data port's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@functools.cache
def _prices() -> PriceList:
    return PriceList.load()


def _price_of(provider: str, model: str) -> Price | None:
    return _prices().price_of(provider, model)
