"""Everything on the data port that is not routed: the model list, health, and 404 or 405 for the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from proxy.api.auth import authenticate
from proxy.api.errors import dialect_at
from proxy.api.health import Health
from proxy.api.openai import ROUTED
from proxy.api.request import request_id
from proxy.policy.model import Key, Snapshot
from proxy.routing.plan import Refusal
from proxy.routing.refusals import model_not_found

_CREATED = 1_700_000_000
"""OpenAI's clients want a creation time for every model; a policy has none to give, so it is the same for all."""


class Catalogue:
    """The Starlette application behind the data port."""

    def __init__(self, current: Callable[[], Snapshot], health: Health) -> None:
        self._current = current
        routes = [
            Route("/v1/models", self._models, methods=["GET"]),
            Route("/v1/models/{model:path}", self._model, methods=["GET"]),
            *health.public_routes(),
            # A POST comes here only by a path that is spelled otherwise, with `%2f` say: that is another path.
            *[Route(path.decode(), not_found, methods=["POST"]) for path in ROUTED],
        ]
        self.app = Starlette(routes=routes, exception_handlers=ABSENT)
        self.app.router.redirect_slashes = False

    async def _models(self, request: Request) -> Response:
        snapshot = self._current()
        key = authenticate(snapshot, dict(request.scope["headers"]))
        if isinstance(key, Refusal):
            return refusal_response(request, key)
        data = [_entry(snapshot, name) for name in snapshot.models if _allowed(key, name)]
        return _json(request, {"object": "list", "data": data})

    async def _model(self, request: Request) -> Response:
        snapshot = self._current()
        key = authenticate(snapshot, dict(request.scope["headers"]))
        if isinstance(key, Refusal):
            return refusal_response(request, key)
        name = request.path_params["model"]
        if name not in snapshot.models or not _allowed(key, name):
            return refusal_response(request, model_not_found(name))
        return _json(request, _entry(snapshot, name))


def refusal_response(request: Request, refusal: Refusal) -> Response:
    """A refusal as a Starlette response, in the protocol of the path's callers."""
    dialect, name = dialect_at(request.scope["path"]), _request_id(request)
    response = Response(dialect.body(refusal, name), refusal.status)
    response.raw_headers.extend(dialect.headers(refusal))
    response.headers["x-request-id"] = name
    return response


def _json(request: Request, content: object) -> Response:
    return JSONResponse(content, headers={"x-request-id": _request_id(request)})


def _request_id(request: Request) -> str:
    return request_id(dict(request.scope["headers"]))


def _allowed(key: Key, model: str) -> bool:
    return key.tenant.models is None or model in key.tenant.models


def _entry(snapshot: Snapshot, name: str) -> dict[str, object]:
    lanes = sorted({candidate.target.lane.value for candidate in snapshot.models[name]})
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "spillway", "lanes": lanes}


async def not_found(request: Request, _: Exception | None = None) -> Response:
    """404: there is nothing at the path."""
    message = f"unknown request URL: {request.method} {request.scope['path']}"
    return refusal_response(request, Refusal(status=404, code="unknown_url", message=message, rule="path"))


async def not_allowed(request: Request, error: Exception) -> Response:
    """405, with `Allow`."""
    message = f"`{request.method}` is not allowed on {request.scope['path']}"
    refusal = Refusal(status=405, code="method_not_allowed", message=message, rule="method")
    response = refusal_response(request, refusal)
    if isinstance(error, HTTPException):
        response.headers.update(error.headers or {})
    return response


ABSENT: Mapping[Any, Any] = {404: not_found, 405: not_allowed}
"""How an application says in JSON that there is nothing at a path, or nothing by that method."""
