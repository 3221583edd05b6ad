"""Liveness and readiness, on both ports."""

from __future__ import annotations

from tests.harness import dedicated, proxy, snapshot_of

POLICY = snapshot_of(dedicated("gpu", "http://127.0.0.1:1/v1"))


async def test_a_proxy_without_its_store_serves_and_says_what_is_degraded() -> None:
    async with proxy(POLICY) as spillway:
        for admin in (False, True):
            alive = await spillway.get("/healthz", admin=admin)
            ready = await spillway.get("/readyz", admin=admin)
            assert (alive.status, alive.json) == (200, {"status": "ok"})
            assert ready.status == 200
            assert ready.json["status"] == "ready"
            assert "the store is out of reach" in ready.json["degraded"]["meters"]


async def test_a_draining_proxy_is_alive_and_not_ready() -> None:
    async with proxy(POLICY) as spillway:
        spillway.spillway.health.draining = True
        assert (await spillway.get("/healthz")).status == 200
        ready = await spillway.get("/readyz")
    assert (ready.status, ready.json["status"]) == (503, "draining")
