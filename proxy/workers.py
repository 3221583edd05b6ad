"""Several worker processes behind one pair of ports, for machines where one core is not enough.

Theory of operation
-------------------
Every worker is a whole proxy with a data socket of its own on the shared port (`SO_REUSEPORT`: the kernel spreads new
connections) and its admin application on a Unix socket. They share budgets, counts and in-flight numbers through the
store, exactly as proxies on different machines do. The parent serves the admin port: it asks every worker and puts a
`worker` label on what each says. A worker that dies is started again; workers end when their parent does, however that
ends. Every signal that the parent hears is passed on to them, and they go through the stages of `drain.py` by
themselves; the parent answers on the admin port until the last one has ended. They are in sessions of their own, so
that Ctrl-C in the terminal does not reach them twice.

Every worker follows the policy by itself. The parent follows it too, and only to know the last text without a mistake:
that is what a worker which has to be started again begins with, whatever is on the disk by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from dataclasses import replace
from functools import partial
from multiprocessing.context import SpawnProcess
from pathlib import Path

import uvicorn
import uvloop
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from proxy.api.admin_auth import AdminAuth
from proxy.api.catalogue import ABSENT, refusal_response
from proxy.api.console import console_routes
from proxy.api.explain import MAX_BODY_BYTES, read_body
from proxy.drain import Drain
from proxy.policy.source import Source
from proxy.policy.watch import Unfit, Watch
from proxy.reload import Folder, Reload
from proxy.routing.plan import Refusal
from proxy.serving import DeafServer, Loaded, bound, compiled, heard, log_to_stderr, servable, serve
from proxy.settings import Settings

_log = logging.getLogger(__name__)
RESTART_PAUSE_S = 1.0
ASK_TIMEOUT_S = 2.0
LEDGER_TIMEOUT_S = 30.0
FLUSH_S = 15.0
"""How long a worker may take to end after it has cut what was in flight: the store may be away."""
_SILENCE = b'{"status": "a worker does not answer"}'
_SPAWN = multiprocessing.get_context("spawn")


class LastGood:
    """The last texts of the policy that a worker could serve by."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def adopt(self, prepared: Source) -> None:
        self.source = prepared

    def refuse(self, refused: Unfit) -> None:
        """The workers say why."""

    def restore(self) -> None:
        """The workers say so."""


def sound(host: str, source: Source) -> Source:
    """The texts, if a worker that listens at `host` would serve by them. Raises `PolicyError`."""
    servable(source, host)
    return source


async def supervise(
    source: Source, settings: Settings, store_url: str, data: socket.socket, admin: socket.socket
) -> None:
    """Run the workers and the admin port until a signal has come and the workers have ended."""
    last_good = LastGood(source)
    reload = Reload(Watch(source, Folder(settings.policy)), partial(sound, data.getsockname()[0]), last_good)
    with tempfile.TemporaryDirectory(prefix="spillway-") as folder:
        sockets = [Path(folder) / f"{n}.sock" for n in range(settings.workers)]
        workers = [
            Worker(last_good, replace(settings, admin_token=None, worker=n), store_url, data, path)
            for n, path in enumerate(sockets)
        ]
        fleet = _Fleet(workers, Drain(settings.drain_delay_s, settings.drain_s))
        server = DeafServer(
            uvicorn.Config(
                AdminAuth(merged_admin(workers), settings.admin_token),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                ws="none",
                timeout_graceful_shutdown=int(ASK_TIMEOUT_S),
            )
        )
        with heard(fleet.told, signal.SIGTERM), heard(fleet.told, signal.SIGINT):
            reload.start()
            admin_task = asyncio.create_task(server.serve(sockets=[admin]))
            await fleet.run()
            reload.stop()
            server.should_exit = True
            await admin_task


class Worker:
    """One worker process and where its admin application listens."""

    def __init__(self, policy: LastGood, settings: Settings, store_url: str, data: socket.socket, admin: Path) -> None:
        self._policy = policy
        self._arguments = (settings, store_url, data.getsockname()[:2], str(admin))
        self.admin = admin
        self.process: SpawnProcess | None = None

    def start(self) -> None:
        self.process = _SPAWN.Process(target=_work, args=(self._policy.source, *self._arguments), daemon=False)
        # The worker inherits the mask: Ctrl-C is not for it, and must not find it half-way into its own session.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def tell(self, signal_number: int) -> None:
        """Pass a signal on; a worker that has ended by now needs none."""
        if self.process is not None and self.process.exitcode is None and self.process.pid is not None:
            os.kill(self.process.pid, signal_number)

    async def keep(self) -> None:
        """Start the process, and start it again whenever it ends by itself."""
        while True:
            self.start()
            assert self.process is not None
            await _readable(self.process.sentinel)
            self.process.join()
            _log.warning("a worker ended by itself (%s); starting another", self.process.exitcode)
            await asyncio.sleep(RESTART_PAUSE_S)

    async def ask(self, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """GET from the worker's admin application, or POST a body: status and body. Raises OSError, TimeoutError."""
        method, length = ("GET", 0) if body is None else ("POST", len(body))
        async with asyncio.timeout(ASK_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(str(self.admin))
            try:
                asked = [f"{method} {path} HTTP/1.1", "host: worker", "connection: close", f"content-length: {length}"]
                asked.append("content-type: application/json")
                writer.write("\r\n".join([*asked, "", ""]).encode() + (body or b""))
                head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
            finally:
                writer.close()
        return int(head.split(b" ", 2)[1]), answer

    async def relay(self, path: str, accept: str = "*/*") -> Response:
        """GET from the worker's admin application, to be passed on as it comes. Raises OSError."""
        import httpx  # noqa: PLC0415  (slow to import, and only this needs it)

        client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(self.admin)),
            timeout=httpx.Timeout(LEDGER_TIMEOUT_S, connect=ASK_TIMEOUT_S),
        )
        try:
            question = client.build_request("GET", f"http://worker{path}", headers={"accept": accept})
            answer = await client.send(question, stream=True)
        except httpx.TransportError as error:
            await client.aclose()
            raise OSError(str(error)) from None

        async def portions() -> AsyncIterator[bytes]:
            try:
                async for portion in answer.aiter_bytes():
                    yield portion
            finally:
                await answer.aclose()
                await client.aclose()

        return StreamingResponse(portions(), answer.status_code, media_type=answer.headers.get("content-type"))


class _Fleet:
    """All workers: kept until a signal comes, and then until they have ended."""

    def __init__(self, workers: list[Worker], drain: Drain) -> None:
        self._workers = workers
        self._drain = drain
        self._loop = asyncio.get_running_loop()
        self._keepers: list[asyncio.Task[None]] = []

    def told(self, number: int) -> None:
        """A signal has come; it is handled between two turns of the loop, where no worker is half-way started."""
        self._loop.call_soon_threadsafe(self._tell, number)

    async def run(self) -> None:
        """Keep the workers, and wait for their end."""
        self._keepers = [asyncio.create_task(worker.keep()) for worker in self._workers]
        await asyncio.wait(self._keepers)
        ends = [asyncio.create_task(self._ended(worker)) for worker in self._workers]
        await asyncio.wait(ends)

    def _tell(self, number: int) -> None:
        self._drain.told(number, time.monotonic())
        for keeper in self._keepers:
            keeper.cancel()
        for worker in self._workers:
            worker.tell(number)

    async def _ended(self, worker: Worker) -> None:
        process = worker.process
        if process is None:
            return
        end = asyncio.create_task(_readable(process.sentinel))
        while not end.done() and time.monotonic() < self._drain.cut_at + FLUSH_S:
            # A further signal may have brought the end nearer.
            await asyncio.wait([end], timeout=1.0)
        end.cancel()
        process.kill()
        process.join()


def _work(source: Source, settings: Settings, store_url: str, address: tuple[str, int], admin: str) -> None:
    """The whole life of a worker process."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until it serves there is nothing to end in order
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    log_to_stderr()
    loaded = Loaded(source, compiled(source))
    with bound(*address, shared=True) as data, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        Path(admin).unlink(missing_ok=True)
        listener.bind(admin)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_orphaned(serve(loaded, settings, store_url, data, listener)))


async def _until_orphaned(serving: Coroutine[None, None, None]) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        asyncio.get_running_loop().add_reader(parent.sentinel, _orphaned, parent.sentinel)
    await serving


def _orphaned(sentinel: int) -> None:
    """A parent that is killed cannot say so; its end is seen here, and handled like a polite signal."""
    asyncio.get_running_loop().remove_reader(sentinel)
    signal.raise_signal(signal.SIGTERM)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)


def merged_admin(workers: list[Worker]) -> Starlette:
    """The admin application of all workers together: ready when every one is, their metrics with a `worker` label."""

    async def metrics(request: Request) -> Response:
        answers = await _ask_all(workers, "/metrics")
        registry = CollectorRegistry()
        registry.register(_Merged([body.decode() if status == 200 else "" for status, body in answers]))
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def explain(request: Request) -> Response:
        body = await read_body(request, MAX_BODY_BYTES)
        if isinstance(body, Refusal):
            return refusal_response(request, body)
        number, (status, answer) = await _first_that_answers(workers, "/admin/explain", body)
        if status == 200:
            answer = b'{"worker":%d,' % number + answer[1:]
        return Response(answer, status, media_type="application/json")

    async def first(request: Request) -> Response:
        answers = await _ask_all(workers, request.url.path)
        status, body = min(answers, key=lambda answer: (answer[0], not _tells_of_an_error(answer[1])))
        return Response(body, status, media_type="application/json")

    async def relayed(request: Request) -> Response:
        path = f"{request.url.path}?{request.url.query}"
        for worker in workers:
            with contextlib.suppress(OSError):
                return await worker.relay(path, request.headers.get("accept", "*/*"))
        return Response(_SILENCE, 503, media_type="application/json")

    async def ready(request: Request) -> Response:
        answers = await _ask_all(workers, "/readyz")
        status, body = max(answers, key=_trouble)
        return Response(body, status, media_type="application/json")

    async def alive(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    gets = [
        ("/metrics", metrics),
        ("/admin/meters", first),
        ("/admin/meters/rows", relayed),
        ("/admin/demand", relayed),
        ("/admin/latency", first),
        ("/admin/live", relayed),
        ("/admin/policy", first),
        ("/readyz", ready),
        ("/healthz", alive),
    ]
    routes = [Route("/admin/explain", explain, methods=["POST"]), *[Route(path, handler) for path, handler in gets]]
    return Starlette(routes=[*routes, *console_routes()], exception_handlers=ABSENT)


def _trouble(answer: tuple[int, bytes]) -> tuple[int, bool, bool]:
    """How much a worker's readiness is worth telling: one that is not ready and says why, then a refused policy."""
    status, body = answer
    return status, body != _SILENCE, _tells_of_an_error(body)


def _tells_of_an_error(body: bytes) -> bool:
    """Whether the worker refused the policy on the disk."""
    return b'"error":{' in body


async def _first_that_answers(workers: list[Worker], path: str, body: bytes) -> tuple[int, tuple[int, bytes]]:
    """The number of a worker that is there, and what it says: readings differ a little from one to another."""
    for number, worker in enumerate(workers):
        with contextlib.suppress(OSError, TimeoutError, IndexError, ValueError):
            return number, await worker.ask(path, body)
    return 0, (503, _SILENCE)


async def _ask_all(workers: Iterable[Worker], path: str) -> list[tuple[int, bytes]]:
    async def ask(worker: Worker) -> tuple[int, bytes]:
        try:
            return await worker.ask(path)
        except (OSError, TimeoutError, IndexError, ValueError):
            return 503, _SILENCE

    return await asyncio.gather(*[ask(worker) for worker in workers])


class _Merged:
    """The workers' expositions as one, every sample labelled with its worker."""

    def __init__(self, expositions: list[str]) -> None:
        self._expositions = expositions

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for number, exposition in enumerate(self._expositions):
            for family in text_string_to_metric_families(exposition):
                merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                merged.samples += [
                    sample._replace(labels={**sample.labels, "worker": str(number)}) for sample in family.samples
                ]
        yield from families.values()
