"""Starts what `spillway serve` needs, in the order in which it can fail, and stops it in reverse.

Theory of operation
-------------------
A bad policy must never serve, so it is compiled first, before any port is bound or any store is started. One process
serves both ports in one event loop; the embedded store, if there is one, is its child.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import os
import socket
import sys
from collections.abc import Iterator
from types import FrameType

import uvicorn
import uvloop

from proxy.api.server import ReceivingLimits, guarded_protocol
from proxy.app import Spillway
from proxy.meters.embedded import EmbeddedStore, EmbeddedStoreError
from proxy.meters.prices import PriceList, PriceListUnreadable
from proxy.meters.store import StoreUrlInvalid
from proxy.policy.compile import compile_policy
from proxy.policy.model import Price, Snapshot
from proxy.policy.problem import PolicyError
from proxy.settings import Settings
from proxy.workers import supervise

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
KEEP_ALIVE_S = 75
"""Longer than the idle timeout of the usual load balancer (60 s), which must be the first to close."""


class StartError(Exception):
    """Why the server does not start; its text is for the terminal."""


def run(settings: Settings) -> None:
    """Serve until a signal. Raises `StartError` before anything is served."""
    log_to_stderr()
    snapshot = load(settings)
    host = _host(settings, snapshot)
    many = settings.workers > 1
    with (
        bound(host, settings.port, shared=many) as data,
        bound(settings.admin_host or host, settings.admin_port) as admin,
        store(settings) as store_url,
    ):
        sys.stderr.write(_greeting(snapshot, data, admin) + "\n")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            if many:
                runner.run(supervise(settings, store_url, data, admin))
            else:
                runner.run(serve(snapshot, settings, store_url, data, admin))


def log_to_stderr() -> None:
    """The process's own log; requests have theirs, on standard output."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


def load(settings: Settings) -> Snapshot:
    """The compiled policy; its problems, all of them, become the `StartError`."""
    try:
        return compile_policy(settings.policy, env=os.environ, price_of=_price_of)
    except PolicyError as error:
        raise StartError(f"{error}\nnot started: the policy `{settings.policy}` has mistakes") from None
    except PriceListUnreadable as error:
        raise StartError(f"not started: {error}") from None


@contextlib.contextmanager
def store(settings: Settings) -> Iterator[str]:
    """The URL of the meters' store, started here unless there is one already."""
    if settings.redis_url is not None:
        yield settings.redis_url
        return
    embedded = EmbeddedStore(settings.data_dir)
    try:
        embedded.start()
    except (EmbeddedStoreError, OSError) as error:
        raise StartError(f"not started: {error}") from None
    try:
        yield embedded.url
    finally:
        embedded.stop()


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
        yield listener


async def serve(
    snapshot: Snapshot, settings: Settings, store_url: str, data: socket.socket, admin: socket.socket
) -> None:
    """Both ports, until the data port's server is told to stop."""
    try:
        spillway = Spillway(snapshot, settings, store_url)
    except StoreUrlInvalid as error:
        raise StartError(f"not started: {error}") from None
    protocol = guarded_protocol(spillway.deadlines, ReceivingLimits())
    common = {"lifespan": "off", "log_config": None, "access_log": False, "server_header": False, "http": protocol}
    front = _Server(
        uvicorn.Config(
            spillway.data,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(settings.drain_s),
            proxy_headers=False,
            backlog=4096,
            **common,  # type: ignore[arg-type]
        ),
        spillway,
    )
    back = _Admin(uvicorn.Config(spillway.admin, **common))  # type: ignore[arg-type]
    _settle_garbage()
    async with spillway:
        admin_task = asyncio.create_task(back.serve(sockets=[admin]))
        await front.serve(sockets=[data])
        back.should_exit = True
        await admin_task


def _settle_garbage() -> None:
    """Keep the collector off what was built to stay: a full collection of it stops every stream for 60 to 130 ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1_000)


class _Server(uvicorn.Server):
    """The data port. It says that it is draining, and ends without raising the signal again."""

    def __init__(self, config: uvicorn.Config, spillway: Spillway) -> None:
        super().__init__(config)
        self._spillway = spillway

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._spillway.health.draining = True
        super().handle_exit(sig, frame)
        self._captured_signals.clear()


class _Admin(uvicorn.Server):
    """The admin port: signals are the data port's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _host(settings: Settings, snapshot: Snapshot) -> str:
    """Without keys, only this machine may call, unless the policy says `auth: none`."""
    guarded = bool(snapshot.keys) or snapshot.open_to_all
    if settings.host is None:
        return "0.0.0.0" if guarded else "127.0.0.1"  # noqa: S104
    if not guarded and settings.host not in _LOOPBACK:
        raise StartError(
            f"not started: anybody who reaches `{settings.host}` could spend your money: the policy has no `tenants`"
            " (hint: add `tenants:` with keys, or say `auth: none` in the policy)"
        )
    return settings.host


def _greeting(snapshot: Snapshot, data: socket.socket, admin: socket.socket) -> str:
    host, port = data.getsockname()[:2]
    return (
        f"spillway serves {len(snapshot.models)} models on {len(snapshot.targets)} targets at http://{host}:{port}/v1,"
        f" metrics and health at http://{admin.getsockname()[0]}:{admin.getsockname()[1]}"
        f" (policy {snapshot.revision})"
    )


@functools.cache
def _prices() -> PriceList:
    return PriceList.load()


def _price_of(provider: str, model: str) -> Price | None:
    return _prices().price_of(provider, model)
