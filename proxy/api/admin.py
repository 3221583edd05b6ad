"""The admin port: metrics, health, the meters, the policy and why it decides as it does. Never on the data port.

Everything here only reads. `POST /admin/explain` is a question too long for a URL.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from proxy.api.catalogue import ABSENT
from proxy.api.explain import Explainer
from proxy.api.health import Health

Report = Callable[[], Awaitable[bytes | None]]


def admin_app(
    exposition: Callable[[], bytes], health: Health, report: Report, policy: Callable[[], bytes], explainer: Explainer
) -> Starlette:
    """`exposition` gives the metrics as text; `policy` and `report` JSON: what is served, and the meters.

    The meters are None while their store is away.
    """

    async def metrics(request: Request) -> Response:
        return Response(exposition(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def meters(request: Request) -> Response:
        document = await report()
        if document is None:
            error = {"message": "the store of the meters is out of reach", "code": "store_unavailable"}
            return JSONResponse({"error": error}, status_code=503)
        return Response(document, media_type="application/json")

    async def served(request: Request) -> Response:
        return Response(policy(), media_type="application/json")

    return Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/admin/meters", meters),
            Route("/admin/policy", served),
            Route("/admin/explain", explainer.answer, methods=["POST"]),
            *health.routes(),
        ],
        exception_handlers=ABSENT,
    )
