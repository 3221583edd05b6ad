"""The admin port: Prometheus metrics, health, and the meters as JSON. Read-only; never on the data port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from proxy.api.health import Health

Report = Callable[[], Awaitable[bytes | None]]


def admin_app(exposition: Callable[[], bytes], health: Health, report: Report) -> Starlette:
    """`exposition` gives the metrics as text, `report` the meters as JSON, or None while the store is away."""

    async def metrics(request: Request) -> Response:
        return Response(exposition(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def meters(request: Request) -> Response:
        document = await report()
        if document is None:
            error = {"message": "the store of the meters is out of reach", "code": "store_unavailable"}
            return JSONResponse({"error": error}, status_code=503)
        return Response(document, media_type="application/json")

    return Starlette(routes=[Route("/metrics", metrics), Route("/admin/meters", meters), *health.routes()])
