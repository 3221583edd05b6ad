"""Liveness and readiness, on both ports.

`/healthz` says that the process turns; it depends on nothing else, or an outage of Redis would restart every proxy.
`/readyz` says whether to send traffic here, and what is degraded meanwhile: the store's absence is no reason not to
serve, draining is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


class Health:
    """`degraded` gives the rules that do not hold at present, with the reason of each."""

    def __init__(self, degraded: Callable[[], Mapping[str, str]]) -> None:
        self._degraded = degraded
        self.draining = False

    def routes(self) -> list[Route]:
        return [Route("/healthz", self._healthz), Route("/readyz", self._readyz)]

    async def _healthz(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _readyz(self, request: Request) -> Response:
        status = "draining" if self.draining else "ready"
        return JSONResponse(
            {"status": status, "degraded": dict(self._degraded())}, status_code=503 if self.draining else 200
        )
