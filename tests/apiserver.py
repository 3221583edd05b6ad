"""A stand-in for a cluster's API server, for EndpointSlices and scales, over real HTTP and TLS, with faults at will.

It keeps to what kubernetes.io says in "Kubernetes API Concepts": every change has a version of its own, which goes for
all objects; a list has the version of its moment, in pages that all show that moment; a watch from a version sends what
came after it, one JSON object a line in a chunked body, until `timeoutSeconds` are over; bookmarks have nothing but a
version; a version that is too old is answered with 410, as the status of the answer or as an `ERROR` event, and a page
of a list that has expired likewise. A workload is scaled by a merge patch of its `scale`, with the version that was
read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from proxy.cluster.access import Access

from tests.redis.certificates import Certificate, make_authority

TOKEN = "token-of-a-test"
LABEL = "kubernetes.io/service-name"
Object = dict[str, Any]


def endpoint(uid: str, address: str, *, ready: bool | None = True, **more: bool | None) -> Object:
    """An endpoint of a slice; `more` are the conditions `serving` and `terminating`."""
    return {
        "addresses": [address],
        "conditions": {"ready": ready, **more},
        "targetRef": {"kind": "Pod", "namespace": "inference", "name": f"vllm-{uid}", "uid": uid},
    }


def endpoint_slice(
    name: str, *endpoints: Object, service: str = "vllm", ports: Any = (("http", 8000),), family: str = "IPv4"
) -> Object:
    """An EndpointSlice that has not been written yet."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "inference", "labels": {LABEL: service}},
        "addressType": family,
        "endpoints": list(endpoints) or None,
        "ports": [{"name": port, "port": number, "protocol": "TCP"} for port, number in ports],
    }


def status(code: int, reason: str, message: str) -> Object:
    """What the API answers, or ends a watch with, where something went wrong."""
    return {"apiVersion": "v1", "kind": "Status", "code": code, "reason": reason, "message": message}


GONE = status(410, "Expired", "too old resource version")


@dataclass
class Refusal:
    """What is answered instead, so many times."""

    code: int
    times: int
    retry_after_s: int | None = None
    only: str = ""
    """`list` or `watch`, or nothing for both."""


@dataclass(eq=False)
class Watching:
    """A watch that is under way."""

    writer: asyncio.StreamWriter
    selected: str
    version: int
    stalled: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Faults:
    """What goes wrong from now on."""

    refusals: list[Refusal] = field(default_factory=list)
    gone_as_event: bool = True
    cut_in_line: bool = False
    """The next event breaks off in the middle, and the connection with it."""
    stall: bool = False
    """New watches say nothing, and never end."""
    answer: bytes | None = None
    """What is sent instead of any answer, before the connection is closed."""
    expire_pages: bool = False
    """Every page but the first has expired."""


class ApiServer:
    """See the module's text. Enter `serving(...)` for one that runs."""

    def __init__(self, certificate: Certificate, draw: random.Random | None = None) -> None:
        self._certificate = certificate
        self._draw = draw
        self._server: asyncio.Server | None = None
        self.connections: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._objects: dict[str, Object] = {}
        self._history: list[tuple[int, str, Object]] = []
        self._pages: dict[str, tuple[int, list[Object]]] = {}
        self.version = 1000
        self._oldest = 1000
        self.port = 0
        self.tokens = {TOKEN}
        self.faults = Faults()
        self.watches: set[Watching] = set()
        self.asked: list[Mapping[str, str]] = []
        """The query of each request for slices."""
        self.scales: dict[str, int] = {}
        """Replicas by workload, such as `deployments/vllm`."""
        self.scaled: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        """Each workload that was scaled, and to how many."""

    # What an administrator does

    def put(self, one: Object) -> int:
        """Write a slice; returns its version."""
        kind = "MODIFIED" if one["metadata"]["name"] in self._objects else "ADDED"
        return self._happened(kind, one)

    def delete(self, name: str) -> int:
        """Remove a slice; returns the version at which it was."""
        return self._happened("DELETED", self._objects[name])

    def elsewhere(self, changes: int = 1) -> None:
        """Something changes that nobody watches: versions go on."""
        self.version += changes

    def compact(self) -> None:
        """Forget what came before now: a watch from then is answered with 410, and pages have expired."""
        self._history.clear()
        self._pages.clear()
        self._oldest = self.version

    def bookmark(self) -> None:
        """Tell all that watch at which version they are."""
        metadata = {"resourceVersion": str(self.version), "creationTimestamp": None}
        bookmark = {"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "metadata": metadata}
        for watching in self._listening():
            watching.version = self.version
            self._send(watching, [{"type": "BOOKMARK", "object": bookmark}])

    def end(self) -> None:
        """End all watches, as if their time were over."""
        for watching in self.watches:
            watching.over.set()

    def end_watches(self, error: Object) -> None:
        """End all watches with an `ERROR` event."""
        for watching in self._listening():
            self._send(watching, [{"type": "ERROR", "object": error}])
            watching.over.set()

    def cut(self) -> None:
        """All connections break."""
        for writer in list(self.connections):
            writer.transport.abort()
        for watching in self.watches:
            watching.over.set()

    def stall(self) -> None:
        """The watches under way say nothing more, and never end."""
        for watching in self.watches:
            watching.stalled = True

    async def down(self) -> None:
        """Nobody listens any more, and all connections break."""
        if self._server is not None:
            self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks)
        self._server = None

    async def up(self) -> None:
        """Listen, on the same port as before."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate.cert, self._certificate.key)
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    # HTTP

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections.add(writer)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                while await self._answer(reader, writer):
                    pass
        finally:
            self._tasks.discard(task)
            self.connections.discard(writer)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection is kept."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        if self.faults.answer is not None:
            writer.write(self.faults.answer)
            writer.close()
            return False
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        url = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if url.path.endswith("/scale"):
            return await self._reply(writer, *self._scale(method, unquote(url.path), headers, body))
        self.asked.append(query)
        refused = self._refused(method, unquote(url.path), headers, query)
        if refused is not None:
            return await self._reply(writer, *refused)
        selected = query.get("labelSelector", "").removeprefix(f"{LABEL}=")
        if query.get("watch") in ("true", "1"):
            return await self._watch(reader, writer, selected, query)
        return await self._reply(writer, *self._list(selected, query))

    def _refused(
        self, method: str, path: str, headers: Mapping[str, str], query: Mapping[str, str]
    ) -> tuple[int, Object, str] | None:
        if headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return 401, status(401, "Unauthorized", "Unauthorized"), ""
        if path != "/apis/discovery.k8s.io/v1/namespaces/inference/endpointslices" or method != "GET":
            return 404, status(404, "NotFound", "the server could not find the requested resource"), ""
        kind = "watch" if "watch" in query else "list"
        for refusal in self.faults.refusals:
            if refusal.times > 0 and refusal.only in ("", kind):
                refusal.times -= 1
                more = "" if refusal.retry_after_s is None else f"Retry-After: {refusal.retry_after_s}\r\n"
                return refusal.code, status(refusal.code, "Refused", "not now"), more
        return None

    async def _reply(self, writer: asyncio.StreamWriter, code: int, body: Object, more: str = "") -> bool:
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n{more}\r\n"
        writer.write(head.encode() + data)
        await writer.drain()
        return True

    def _scale(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Object]:
        workload = path.removeprefix("/apis/apps/v1/namespaces/inference/").removesuffix("/scale")
        if headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return 401, status(401, "Unauthorized", "Unauthorized")
        if workload not in self.scales:
            return 404, status(404, "NotFound", "the server could not find the requested resource")
        if method == "PATCH":
            if headers.get("content-type") != "application/merge-patch+json":
                return 415, status(415, "UnsupportedMediaType", "the body of the request was in an unknown format")
            patch = json.loads(body)
            if patch["metadata"]["resourceVersion"] != str(self.version):
                return 409, status(409, "Conflict", "the object has been modified")
            self.version += 1
            self.scales[workload] = patch["spec"]["replicas"]
            self.scaled.put_nowait((workload, self.scales[workload]))
        metadata = {"name": workload.rpartition("/")[2], "namespace": "inference", "resourceVersion": str(self.version)}
        return 200, {"kind": "Scale", "metadata": metadata, "spec": {"replicas": self.scales[workload]}}

    # Lists

    def _list(self, selected: str, query: Mapping[str, str]) -> tuple[int, Object]:
        token, limit = query.get("continue"), int(query.get("limit", "0"))
        if token is None:
            version, rest = self.version, [self._objects[name] for name in sorted(self._objects)]
            rest = [one for one in rest if _selected(one, selected)]
        elif self.faults.expire_pages or token not in self._pages:
            return 410, status(410, "Expired", "The provided continue parameter is too old")
        else:
            version, rest = self._pages[token]
        page, rest = (rest[:limit], rest[limit:]) if limit else (rest, [])
        metadata: Object = {"resourceVersion": str(version)}
        if rest:
            metadata |= {"continue": f"{version}-{rest[0]['metadata']['name']}", "remainingItemCount": len(rest)}
            self._pages[metadata["continue"]] = (version, rest)
        kind = {"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1"}
        return 200, {**kind, "metadata": metadata, "items": page}

    # Watches

    async def _watch(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, selected: str, query: Mapping[str, str]
    ) -> bool:
        version = int(query.get("resourceVersion", self.version + 1))
        if version > self.version:
            return await self._reply(writer, 504, status(504, "Timeout", "Too large resource version"))
        if version < self._oldest and not self.faults.gone_as_event:
            return await self._reply(writer, 410, GONE)
        head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode())
        watching = Watching(writer=writer, selected=selected, version=version, stalled=self.faults.stall)
        if version < self._oldest:
            self._send(watching, [{"type": "ERROR", "object": GONE}])
        else:
            await self._follow(watching, reader, float(query["timeoutSeconds"]))
        if writer.is_closing():
            return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _follow(self, watching: Watching, reader: asyncio.StreamReader, timeout_s: float) -> None:
        left = asyncio.ensure_future(reader.read(1))
        left.add_done_callback(lambda _: watching.over.set())
        self.watches.add(watching)
        try:
            if watching in self._listening():
                self._catch_up(watching)
            with contextlib.suppress(TimeoutError):  # its time is over, as was asked for
                async with asyncio.timeout(None if watching.stalled else timeout_s):
                    await watching.over.wait()
        finally:
            left.cancel()
            await asyncio.gather(left, return_exceptions=True)
            self.watches.discard(watching)

    def _listening(self) -> list[Watching]:
        return [one for one in self.watches if not one.stalled and not one.writer.is_closing()]

    def _catch_up(self, watching: Watching) -> None:
        news = [change for change in self._history if change[0] > watching.version]
        watching.version = max([watching.version, *(version for version, _, _ in news)])
        mine = [{"type": kind, "object": one} for _, kind, one in news if _selected(one, watching.selected)]
        if mine:
            self._send(watching, mine)

    def _send(self, watching: Watching, events: list[Object]) -> None:
        """Lines, in chunks that may be cut anywhere."""
        data = b"".join(json.dumps(event).encode() + b"\n" for event in events)
        if self.faults.cut_in_line:
            self.faults.cut_in_line = False
            watching.writer.write(_chunk(data[: len(data) // 2]))
            watching.writer.close()
            watching.over.set()
            return
        for piece in self._pieces(data):
            watching.writer.write(_chunk(piece))

    def _pieces(self, data: bytes) -> list[bytes]:
        if self._draw is None:
            return [data]
        cuts = sorted(self._draw.sample(range(1, len(data)), self._draw.randint(0, 4)))
        return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    def _happened(self, kind: str, one: Object) -> int:
        self.version += 1
        written = {**one, "metadata": {**one["metadata"], "resourceVersion": str(self.version)}}
        if kind == "DELETED":
            del self._objects[one["metadata"]["name"]]
        else:
            self._objects[one["metadata"]["name"]] = written
        self._history.append((self.version, kind, written))
        for watching in self._listening():
            self._catch_up(watching)
        return self.version


def _selected(one: Object, service: str) -> bool:
    return one["metadata"]["labels"].get(LABEL) == service


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


@contextlib.asynccontextmanager
async def serving(folder: Path, draw: random.Random | None = None) -> AsyncIterator[tuple[ApiServer, Access]]:
    """One that runs, and how a pod reaches it; `draw` cuts what is sent into pieces."""
    authority = make_authority(folder)
    account = folder / "serviceaccount"
    account.mkdir()
    (account / "token").write_text(TOKEN)
    (account / "ca.crt").write_bytes(authority.ca.cert.read_bytes())
    server = ApiServer(authority.sign("api", "IP:127.0.0.1"), draw)
    await server.up()
    try:
        yield server, Access(host="127.0.0.1", port=server.port, account=account)
    finally:
        await server.down()
