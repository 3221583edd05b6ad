"""Liveness and readiness, on both ports.

`/healthz` says that the process turns; it depends on nothing else, or an outage of Redis would restart every proxy.
`/readyz` says whether to send traffic here, and what is degraded meanwhile: the store's absence is no reason not to
serve, draining is. Nor is a new policy that was refused: the one before it serves on. What is wrong with it concerns
whoever runs the proxy, and not whoever calls it, so its problems are shown on the admin port only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from proxy.policy.status import PolicyStatus


class Health:
    """`degraded` gives the rules that do not hold at present, with the reason of each; `policy` what is served."""

    def __init__(self, degraded: Callable[[], Mapping[str, str]], policy: Callable[[], PolicyStatus]) -> None:
        self._degraded = degraded
        self._policy = policy
        self.draining = False

    def routes(self) -> list[Route]:
        """For the admin port."""
        return [Route("/healthz", self._healthz), Route("/readyz", self._readyz)]

    def public_routes(self) -> list[Route]:
        """For the data port."""
        return [Route("/healthz", self._healthz), Route("/readyz", self._public_readyz)]

    async def _healthz(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _readyz(self, request: Request) -> Response:
        return self._ready(msgspec.to_builtins(self._policy()))

    async def _public_readyz(self, request: Request) -> Response:
        policy = self._policy()
        return self._ready({"revision": policy.revision, "generation": policy.generation})

    def _ready(self, policy: object) -> Response:
        status = "draining" if self.draining else "ready"
        content = {"status": status, "degraded": dict(self._degraded()), "policy": policy}
        return JSONResponse(content, status_code=503 if self.draining else 200)
