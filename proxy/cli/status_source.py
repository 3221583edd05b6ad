"""Where `spillway status` reads the meters: a running proxy, a store, or the files of a stopped one.

Which policy is served, only a running proxy knows.
"""

from __future__ import annotations

import asyncio
import http.client
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from proxy.cli.admin_port import AdminPortError, SaidNo, ask
from proxy.engines import LatencyReport
from proxy.live.view import FoundView
from proxy.meters.embedded import EmbeddedStore, EmbeddedStoreError
from proxy.meters.report import MeterReport, report
from proxy.meters.standing import Standing
from proxy.meters.store import Store, StoreError, StoreUnavailable
from proxy.meters.store_folder import StoreFolder
from proxy.meters.store_url import store_url
from proxy.meters.summary import summarise
from proxy.policy.status import PolicyStatus

FETCH_TIMEOUT_S = 5.0
_HINT = "start one with `spillway serve`, or name its store with `--redis-url` or `--data-dir`"
Answer = TypeVar("Answer")


class _Target(msgspec.Struct):
    name: str
    found: FoundView | None = None


class _Live(msgspec.Struct):
    """The part of the live view that is shown here."""

    targets: tuple[_Target, ...]


class StatusUnavailable(Exception):
    """There is nothing to show; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Meters:
    """What was found: `report` is None while the proxy's store is away, `standing` where no proxy was asked."""

    report: MeterReport | None
    standing: Standing | None = None


def read_meters(admin_url: str, redis_url: str | None, data_dir: Path | None) -> Meters:
    """The meters of the proxy at `admin_url`, unless one of the two stores is named. Raises StatusUnavailable."""
    if redis_url is not None and data_dir is not None:
        raise StatusUnavailable("`--redis-url` and `--data-dir` name two stores (hint: give one of them)")
    try:
        if redis_url is not None:
            return Meters(asyncio.run(_from_store(store_url(redis_url, os.environ))))
        if data_dir is not None:
            return Meters(_from_folder(data_dir))
    except (StoreError, EmbeddedStoreError) as error:
        raise StatusUnavailable(str(error)) from None
    return _from_proxy(admin_url)


def read_policy(admin_url: str) -> PolicyStatus:
    """What the proxy at `admin_url` serves by. Raises StatusUnavailable."""
    _, body = _fetched(admin_url, "/admin/policy", (200,))
    return _decoded(admin_url, body, PolicyStatus)


def read_latency(admin_url: str) -> LatencyReport | None:
    """Both ends of the dedicated targets, as the proxy at `admin_url` knows them; None of one that does not yet.

    Raises StatusUnavailable.
    """
    status, body = _fetched(admin_url, "/admin/latency", (200, 404))
    return _decoded(admin_url, body, LatencyReport) if status == 200 else None


def read_found(admin_url: str) -> dict[str, FoundView]:
    """How it stands with the pods of targets whose replicas are found; none of a proxy that does not tell yet.

    Raises StatusUnavailable.
    """
    status, body = _fetched(admin_url, "/admin/live", (200, 404))
    targets = _decoded(admin_url, body, _Live).targets if status == 200 else ()
    return {one.name: one.found for one in targets if one.found is not None}


def _from_proxy(admin_url: str) -> Meters:
    status, body = _fetched(admin_url, "/admin/meters", (200, 503))
    standing = _decoded(admin_url, body, Standing)
    return Meters(_decoded(admin_url, body, MeterReport) if status == 200 else None, standing)


def _decoded(admin_url: str, body: bytes, kind: type[Answer]) -> Answer:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError:
        raise StatusUnavailable(f"`{admin_url}` does not answer like a Spillway of this release") from None


def _fetched(admin_url: str, path: str, wanted: tuple[int, ...]) -> tuple[int, bytes]:
    """Status and body of an answer that has one of the statuses that are wanted."""
    try:
        with ask(admin_url, path, hint=_HINT) as response:
            return response.status, response.read()
    except SaidNo as error:
        if error.status in wanted:
            return error.status, error.body
        raise StatusUnavailable(str(error)) from None
    except AdminPortError as error:
        raise StatusUnavailable(str(error)) from None
    except (OSError, http.client.HTTPException) as error:
        raise StatusUnavailable(f"`{admin_url}` answered, and not to the end: {error}") from None


def _from_folder(data_dir: Path) -> MeterReport:
    folder = StoreFolder(data_dir)
    if not folder.path.is_dir():
        raise StatusUnavailable(f"no store in `{data_dir}` (hint: name the data folder of a proxy)")
    try:
        return asyncio.run(_from_store(f"unix://{folder.socket}"))
    except StoreUnavailable:
        # No proxy runs there: start the server on its files for as long as it takes to read them.
        with EmbeddedStore(data_dir) as embedded:
            return asyncio.run(_from_store(embedded.url))
    finally:
        folder.release()


async def _from_store(url: str) -> MeterReport:
    store = Store(url, timeout_s=FETCH_TIMEOUT_S)
    try:
        totals = await store.read_totals()
    finally:
        await store.aclose()
    return report(summarise(totals), None, {}, {}, processes=totals.processes)
