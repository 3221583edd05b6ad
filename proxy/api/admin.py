"""The admin port: metrics, health, the meters, the policy and why it decides as it does. Never on the data port.

Everything here only reads. `POST /admin/explain` is a question too long for a URL.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

import msgspec
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from proxy.api.catalogue import ABSENT
from proxy.api.console import console_routes
from proxy.api.explain import Explainer
from proxy.api.health import Health
from proxy.api.live import LiveFeed
from proxy.meters.aggregates import Grain
from proxy.meters.standing import NOTHING_KNOWN, Standing
from proxy.meters.store_error import StoreError
from proxy.meters.usage_rows import HOUR_S, MAX_HOURS, failed_line, whole_hours

Report = Callable[[], Awaitable[bytes | None]]
UsageLines = Callable[[int, int, Grain], AsyncIterator[bytes]]
"""What `usage_lines` is, once it knows where to read: from, to (Unix time, whole hours), grain. Raises StoreError."""
DemandLines = Callable[[int, int], AsyncIterator[bytes]]
"""The same for `demand_lines`: from, to."""

JSON_LINES = "application/jsonl"
_AWAY = {"message": "the store of the meters is out of reach", "code": "store_unavailable"}


async def _nothing(from_s: int, to_s: int, grain: Grain = Grain.HOUR) -> AsyncIterator[bytes]:
    yield failed_line("this proxy keeps no ledger")


def admin_app(
    exposition: Callable[[bool], Iterable[bytes]],
    health: Health,
    report: Report,
    policy: Callable[[], bytes],
    explainer: Explainer,
    *,
    standing: Callable[[], Standing] = lambda: NOTHING_KNOWN,
    usage: UsageLines = _nothing,
    demand: DemandLines = _nothing,
    latency: Callable[[], object] = dict,
    live: LiveFeed | None = None,
) -> Starlette:
    """`exposition` gives the metrics as text, in pieces, and as OpenMetrics if told so; `policy` and `report` JSON:
    what is served, and the meters; `latency` how both ends of the dedicated targets compare.

    The report is None while their store is away; how budgets stand is known then, too.
    """

    async def metrics(request: Request) -> Response:
        _, content_type = choose_encoder(request.headers.get("accept", ""))
        pieces = []
        for piece in exposition(content_type.startswith("application/openmetrics-text")):
            pieces.append(piece)
            await asyncio.sleep(0)  # others are served in between
        return Response(b"".join(pieces), headers={"content-type": content_type})

    async def meters(request: Request) -> Response:
        document = await report()
        stand = msgspec.json.encode(standing())
        if document is None:
            document = msgspec.json.encode({"error": _AWAY})
            return Response(_both(document, stand), status_code=503, media_type="application/json")
        return Response(_both(document, stand), media_type="application/json")

    async def rows(request: Request) -> Response:
        return await _sent(request, usage)

    async def wanted(request: Request) -> Response:
        return await _sent(request, lambda from_s, to_s, _: demand(from_s, to_s))

    async def compared(request: Request) -> Response:
        return Response(msgspec.json.encode(latency()), media_type="application/json")

    async def served(request: Request) -> Response:
        return Response(policy(), media_type="application/json")

    return Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/admin/meters", meters),
            Route("/admin/meters/rows", rows),
            Route("/admin/demand", wanted),
            Route("/admin/latency", compared),
            Route("/admin/policy", served),
            Route("/admin/explain", explainer.answer, methods=["POST"]),
            *health.routes(),
            *([] if live is None else [Route("/admin/live", live.answer)]),
            *console_routes(),
        ],
        exception_handlers=ABSENT,
    )


def _both(one: bytes, other: bytes) -> bytes:
    """Two JSON objects, neither of them empty, as one."""
    return b"%s,%s" % (one[:-1], other[1:])


async def _sent(request: Request, read: UsageLines) -> Response:
    asked = _asked(request)
    if isinstance(asked, str):
        return JSONResponse({"error": {"message": asked, "code": "invalid_request"}}, status_code=400)
    lines = read(*asked)
    try:
        first = await anext(lines, b"")
        second = await anext(lines, b"")  # the first that needs the store
    except StoreError:
        return JSONResponse({"error": _AWAY}, status_code=503)
    return StreamingResponse(_ended(first + second, lines), media_type=JSON_LINES)


async def _ended(first: bytes, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The lines; if the store goes away meanwhile the last one says so."""
    yield first
    try:
        async for portion in lines:
            yield portion
    except StoreError as error:
        yield failed_line(str(error))


def _asked(request: Request) -> tuple[int, int, Grain] | str:
    """From, to and grain, or what is wrong with them."""
    try:
        from_s, to_s = (float(request.query_params[name]) for name in ("from", "to"))
        grain = Grain(request.query_params.get("grain", Grain.HOUR))
        begin, end = whole_hours(from_s, to_s)
    except (KeyError, ValueError, OverflowError):
        return "ask with from=, to= (Unix time in seconds) and grain=minute or grain=hour"
    if not 0 <= begin <= end or (end - begin) // HOUR_S > MAX_HOURS:
        return f"to= must not be before from=, nor more than {MAX_HOURS} hours after it"
    return begin, end, grain
