"""Liveness and readiness, on both ports."""

from __future__ import annotations

from proxy.policy.problem import Problem
from proxy.policy.watch import Unfit
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


async def test_a_refused_policy_is_no_reason_not_to_serve_and_shown_on_the_admin_port_only() -> None:
    async with proxy(POLICY) as spillway:
        before = (await spillway.get("/readyz", admin=True)).json["policy"]
        spillway.spillway.refuse(Unfit((Problem("policy.yaml", 3, 5, "unknown key `lan`", "did you mean"),), "e" * 12))
        shown = await spillway.get("/readyz", admin=True)
        public = await spillway.get("/readyz")
    assert (before["revision"], before["generation"], before["error"]) == ("d" * 12, 1, None)
    assert (shown.status, shown.json["status"]) == (200, "ready")
    policy = shown.json["policy"]
    assert (policy["revision"], policy["generation"], policy["loaded_at"]) == ("d" * 12, 1, before["loaded_at"])
    assert (policy["reload_failures"], policy["error"]["revision"]) == (1, "e" * 12)
    assert policy["error"]["problems"] == ["policy.yaml:3:5: unknown key `lan` (hint: did you mean)"]
    assert public.json["policy"] == {"revision": "d" * 12, "generation": 1}
    assert b"lan" not in public.body
