"""A collector: it takes traces by OTLP over HTTP, as OpenTelemetry's own would, and keeps what it was sent."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent

SERVER, CLIENT = Sent.SPAN_KIND_SERVER, Sent.SPAN_KIND_CLIENT
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Span:
    """One span as it came over the wire; ids are hex."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    error: bool
    resource: dict[str, Any]
    flags: int


@dataclass
class Collector:
    """What has come so far. `status` is how it answers."""

    port: int = 0
    status: int = 200
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """What a process that sends here, and soon, has to be told."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    @property
    def spans(self) -> list[Span]:
        return [span for body in self.bodies for span in decoded(body)]

    async def until(self, enough: Callable[[list[Span]], object]) -> list[Span]:
        """The spans, once there are enough of them."""
        async with asyncio.timeout(PATIENCE_S), self._came:
            await self._came.wait_for(lambda: enough(self.spans))
        return self.spans

    async def asked(self, times: int) -> None:
        """Wait until it was asked so often, however it answered."""
        async with asyncio.timeout(PATIENCE_S), self._came:
            await self._came.wait_for(lambda: len(self.paths) >= times)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                line, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (row.partition(":") for row in rest)}
                body = await reader.readexactly(int(headers["content-length"]))
                async with self._came:
                    self.paths.append(line.split()[1])
                    self.headers.append(headers)
                    if self.status == 200:
                        self.bodies.append(gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body)
                    self._came.notify_all()
                writer.write(b"HTTP/1.1 %d Said\r\ncontent-length: 0\r\n\r\n" % self.status)
        writer.close()


@contextlib.asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """A collector on a free port of the loopback."""
    one = Collector()
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()


def decoded(body: bytes) -> list[Span]:
    """The spans of one export."""
    return [
        Span(
            name=span.name,
            kind=span.kind,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            start_ns=span.start_time_unix_nano,
            end_ns=span.end_time_unix_nano,
            attributes={one.key: _plain(one.value) for one in span.attributes},
            error=span.status.code == 2,
            resource={one.key: _plain(one.value) for one in resource.resource.attributes},
            flags=span.flags,
        )
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(one) for one in value.array_value.values]
    return getattr(value, kind)
