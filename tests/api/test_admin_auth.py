"""The admin token: everything below /admin needs it, nothing else does, and no browser gets by without it."""

from __future__ import annotations

import pytest
from proxy.api.admin_auth import is_closed
from tests.harness import Proxy, dedicated, proxy, request_bytes, snapshot_of
from tests.wire import wire

POLICY = snapshot_of(dedicated("gpu", "http://127.0.0.1:1/v1"))
TOKEN = "an-admin-token-of-32-characters!"
BEARER = {"authorization": f"Bearer {TOKEN}"}
CLOSED = ["/admin/live", "/admin/policy", "/admin/meters", "/admin/meters/rows", "/admin/latency", "/admin/nothing"]


async def asked(spillway: Proxy, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> int:
    reply = await spillway.send(method, path, b"", headers, port=spillway.admin_port)
    return reply.status


@pytest.mark.parametrize("path", CLOSED)
async def test_without_the_token_there_is_nothing(path: str) -> None:
    async with proxy(POLICY, admin_token=TOKEN) as spillway:
        got = await spillway.get(path, admin=True)
        assert (got.status, got.json["error"]["code"]) == (401, "admin_token_required")
        assert got.headers["www-authenticate"].startswith("Bearer ")
        assert TOKEN not in got.body.decode()
        assert await asked(spillway, path, BEARER) != 401


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
async def test_probes_and_prometheus_need_none(path: str) -> None:
    async with proxy(POLICY, admin_token=TOKEN) as spillway:
        assert await asked(spillway, path) == 200


@pytest.mark.parametrize(
    "value",
    [
        "",
        TOKEN,
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer",
        f"Basic {TOKEN}",
        "Bearer \xe9",
        f"Bearer  x{TOKEN}",
    ],
)
async def test_what_is_not_the_token(value: str) -> None:
    async with proxy(POLICY, admin_token=TOKEN) as spillway:
        assert await asked(spillway, "/admin/policy", {"authorization": value}) == 401


async def test_the_scheme_is_spelled_any_way() -> None:
    async with proxy(POLICY, admin_token=TOKEN) as spillway:
        assert await asked(spillway, "/admin/policy", {"authorization": f"bearer {TOKEN}"}) == 200


@pytest.mark.parametrize(
    "path", ["/%61dmin/policy", "/admin/policy?token=x", "/admin%2fpolicy", "/admin/../admin/policy"]
)
async def test_another_spelling_opens_nothing(path: str) -> None:
    async with proxy(POLICY, admin_token=TOKEN) as spillway:
        assert await asked(spillway, path) in (401, 404)


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "DELETE"])
async def test_no_method_goes_round_it(method: str) -> None:
    async with proxy(POLICY, admin_token=TOKEN) as spillway, wire(spillway.admin_port) as client:
        await client.send(request_bytes(method, "/admin/explain"))
        assert b" 401 " in await client.until(b"\r\n")


async def test_a_second_header_does_not_help() -> None:
    async with proxy(POLICY, admin_token=TOKEN) as spillway, wire(spillway.admin_port) as client:
        asked = request_bytes("GET", "/admin/policy", headers={"authorization": "Bearer no"})
        await client.send(asked.replace(b"\r\n\r\n", f"\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode(), 1))
        assert (await client.reply()).status in (400, 401)


TARGETS = [
    "//admin/policy",
    "/./admin/policy",
    "/console/../admin/policy",
    "/Admin/policy",
    "/admin/policy/",
    "/admin;x/policy",
    "/admin%00/policy",
    "/%2561dmin/policy",
    "http://x/admin/policy",
    "http://x//admin/policy",
    "http://admin/policy",
    "/healthz#/../admin/policy",
    "admin/policy",
    "*",
]
HEADERS = [
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n",
    "X-HTTP-Method-Override: OPTIONS\r\nX-Forwarded-For: 127.0.0.1\r\n",
]


@pytest.mark.parametrize("target", TARGETS)
async def test_no_request_target_goes_round_it(target: str) -> None:
    async with proxy(POLICY, admin_token=TOKEN) as spillway, wire(spillway.admin_port) as client:
        await client.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        reply = await client.reply()
        assert reply.status in ((200,) if target.startswith("/healthz") else (400, 401, 404))
        assert b"revision" not in reply.body


@pytest.mark.parametrize("more", HEADERS)
async def test_no_offer_of_another_protocol_goes_round_it(more: str) -> None:
    async with proxy(POLICY, admin_token=TOKEN) as spillway, wire(spillway.admin_port) as client:
        await client.send(f"GET /admin/live HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode())
        assert (await client.reply()).status == 401
        # A path that is open takes the connection no further either.
        await client.send(f"GET /healthz HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode())
        assert (await client.reply()).status == 200
        await client.send(b"GET /admin/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.reply()).status == 401


@pytest.mark.parametrize(
    "path", ["/", "/console/nothing", "/nothing", "/metrics", "/healthz", "/admin/policy", "/admin/x"]
)
async def test_no_answer_is_a_page_that_runs_anything(path: str) -> None:
    async with proxy(POLICY, admin_token=TOKEN) as spillway:
        for headers in ({}, BEARER):
            got = await spillway.get(path, headers, admin=True)
            assert got.headers["x-content-type-options"] == "nosniff"
            assert got.headers["content-security-policy"].startswith("default-src 'none'")
            assert "frame-ancestors 'none'" in got.headers["content-security-policy"]
            assert "unsafe" not in got.headers["content-security-policy"]


async def test_a_form_cannot_ask_for_an_explanation() -> None:
    """Another origin's page can send these types without asking the browser's leave, and no other."""
    async with proxy(POLICY) as spillway:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
            got = await spillway.send(
                "POST", "/admin/explain", b'{"request": {"model": "m"}}', {"content-type": kind}, spillway.admin_port
            )
            assert (got.status, got.json["error"]["code"]) == (415, "not_json")
        kind = "application/json; charset=utf-8"
        got = await spillway.send(
            "POST", "/admin/explain", b'{"request": {"model": "m"}}', {"content-type": kind}, spillway.admin_port
        )
        assert got.status == 200


async def test_answers_are_for_nobodys_cache_and_no_other_origin() -> None:
    async with proxy(POLICY) as spillway:
        got = await spillway.get("/admin/policy", {"origin": "https://evil.example"}, admin=True)
    assert (got.headers["cache-control"], got.headers["x-content-type-options"]) == ("no-store", "nosniff")
    assert not [name for name in got.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    ("path", "closed"),
    [("/admin", True), ("/admin/", True), ("/admin/live", True), ("/administrator", False), ("/", False)],
)
def test_what_is_closed(path: str, closed: bool) -> None:
    assert is_closed(path) is closed
