"""Starts what `spillway serve` needs, in the order in which it can fail, and stops it in reverse.

Theory of operation
-------------------
A bad policy must never serve, so it is compiled first, before any port is bound or any store is started. One process
serves both ports in one event loop; the embedded store, if there is one, is its child.

SIGTERM is heard from the beginning. As the first process of a container this one would hear nothing otherwise, and an
orchestrator that changes its mind would wait for the whole of its patience.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Iterator, Sized

import uvloop

from proxy.meters.embedded import EmbeddedStore, EmbeddedStoreError
from proxy.policy.model import Snapshot
from proxy.serving import StartError, bound, heard, load, log_to_stderr, may_listen, serve
from proxy.settings import Settings
from proxy.workers import supervise


def run(settings: Settings) -> None:
    """Serve until a signal. Raises `StartError` before anything is served."""
    log_to_stderr()
    with heard(_leave, signal.SIGTERM):
        _run(settings)


def _run(settings: Settings) -> None:
    loaded = load(settings)
    host = _host(settings, loaded.snapshot)
    many = settings.workers > 1
    if many and settings.port:
        with bound(host, settings.port):
            pass  # `SO_REUSEPORT` would hide that somebody else serves there
    with (
        bound(host, settings.port, shared=many) as data,
        bound(settings.admin_host or host, settings.admin_port) as admin,
        store(settings) as store_url,
    ):
        sys.stderr.write(_greeting(loaded.snapshot, data, admin) + "\n")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            if many:
                runner.run(supervise(loaded.source, settings, store_url, data, admin))
            else:
                runner.run(serve(loaded, settings, store_url, data, admin))
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it leaves, and has only to stop the store in order


def _leave(number: int) -> None:
    """Nothing is served yet: end, but stop what has been started."""
    raise SystemExit(0)


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


def _host(settings: Settings, snapshot: Snapshot) -> str:
    """Without keys, only this machine may call, unless the policy says `auth: none`."""
    if settings.host is None:
        return "0.0.0.0" if may_listen(snapshot, "0.0.0.0") else "127.0.0.1"  # noqa: S104
    if not may_listen(snapshot, settings.host):
        raise StartError(
            f"not started: anybody who reaches `{settings.host}` could spend your money: the policy has no `tenants`"
            " (hint: add `tenants:` with keys, or say `auth: none` in the policy)"
        )
    return settings.host


def _greeting(snapshot: Snapshot, data: socket.socket, admin: socket.socket) -> str:
    host, port = data.getsockname()[:2]
    return (
        f"spillway serves {_counted(snapshot.models, 'model')} on {_counted(snapshot.targets, 'target')}"
        f" at http://{host}:{port}/v1,"
        f" metrics and health at http://{admin.getsockname()[0]}:{admin.getsockname()[1]}"
        f" (policy {snapshot.revision})"
    )


def _counted(things: Sized, name: str) -> str:
    return f"{len(things)} {name}" if len(things) == 1 else f"{len(things)} {name}s"
