"""The live view travels as JSON and comes back as it was."""

import msgspec
from proxy.live.view import Health, HistoryHere, LiveView
from proxy.policy.status import PolicyStatus


def test_a_view_comes_back_as_it_went() -> None:
    view = LiveView(
        version="1.0",
        as_of=1e9,
        started_at=1e9 - 5,
        policy=PolicyStatus(revision="abc", loaded_at=1e9),
        health=Health(status="ready", degraded={"meters": "away"}),
        rates_s=10.0,
        shares_s=60.0,
        targets=(),
        routes=(),
        history=HistoryHere(step_s=2.0),
    )

    assert msgspec.json.decode(msgspec.json.encode(view), type=LiveView) == view
