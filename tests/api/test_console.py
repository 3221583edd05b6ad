"""The console's files: what is served is what is in the package, and nothing that a page could be tricked with."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from proxy.api.console import console_routes
from starlette.applications import Starlette

FOLDER = Path(__file__).resolve().parents[2] / "proxy/console"
PARTS = sorted(path for path in FOLDER.rglob("*") if path.suffix in {".html", ".css", ".js", ".svg"})
URLS = {"/" if path.name == "index.html" else f"/console/{path.relative_to(FOLDER).as_posix()}": path for path in PARTS}
OURS = [path for path in PARTS if path.parent.name != "vendor"]


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(Starlette(routes=console_routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
        yield client


async def test_every_part_is_served_as_it_is(client: httpx.AsyncClient) -> None:
    for url, path in URLS.items():
        got = await client.get(url)
        assert (got.status_code, got.content) == (200, path.read_bytes()), url
        kinds = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
        assert got.headers["content-type"].partition(";")[0] == kinds[path.suffix]


async def test_nothing_runs_that_is_not_ours(client: httpx.AsyncClient) -> None:
    for url in URLS:
        headers = (await client.get(url)).headers
        policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
        assert policy == {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "connect-src": "'self'",
            "img-src": "'self' data:",
            "base-uri": "'none'",
            "form-action": "'self'",
            "frame-ancestors": "'none'",
            "require-trusted-types-for": "'script'",
            "trusted-types": "'none'",
        }
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


async def test_a_part_that_the_browser_has_is_not_sent_again(client: httpx.AsyncClient) -> None:
    first = await client.get("/")
    assert first.headers["cache-control"] == "no-cache"
    etag = first.headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = await client.get("/", headers={"if-none-match": known})
        assert (again.status_code, again.content) == (304, b""), known
        assert again.headers["etag"] == etag
        assert "content-security-policy" in again.headers
    assert (await client.get("/", headers={"if-none-match": '"other"'})).status_code == 200


async def test_nothing_else_is_served_from_there(client: httpx.AsyncClient) -> None:
    for path in ("/console/", "/console/vendor/README.md", "/console/../api/console.py", "/console/%2e%2e/app.py"):
        assert (await client.get(path)).status_code == 404, path
    assert (await client.post("/")).status_code == 405


def test_the_page_names_only_parts_that_are_there() -> None:
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    named = set(re.findall(r'(?:src|href)="([^"#]+)"', page))
    assert {f"/{name}" for name in named} <= set(URLS)
    imported = {
        (path.parent / name).resolve() for path in OURS for name in re.findall(r'from "(\./[^"]+)"', path.read_text())
    }
    assert imported <= set(PARTS)


def test_no_part_names_another_host_or_writes_markup() -> None:
    for path in OURS:
        text = path.read_text(encoding="utf-8")
        hosts = set(re.findall(r"https?://([^/\"'\s]+)", text))
        assert hosts <= {"www.w3.org"}, path.name
        markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|\sstyle=|\son\w+="
        assert not re.search(markup, text), path.name


def test_what_is_not_ours_is_as_its_authors_released_it() -> None:
    notes = (FOLDER / "vendor/README.md").read_text(encoding="utf-8")
    sums = dict(re.findall(r"^\| `(\S+)` \|.*`([0-9a-f]{64})`", notes, flags=re.MULTILINE))
    vendored = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in PARTS if path not in OURS}
    assert sums == vendored
    assert "Permission is hereby granted" in (FOLDER / "vendor/uPlot.LICENSE").read_text(encoding="utf-8")
