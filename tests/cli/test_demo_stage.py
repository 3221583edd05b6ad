"""The demo's set, with the real proxy: it comes up, is read, and goes away without a trace."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy.cli.demo_stage import MAX_IN_FLIGHT, MODEL, POLICY, StageError, stage
from proxy.policy.compile import compile_policy
from proxy.policy.model import Lane
from proxy.simulator.load import Load, Turn, Visit


def test_the_policy_sends_to_the_engine_first_and_spills_to_the_provider(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    urls = {"engine": "http://127.0.0.1:1/v1", "provider": "http://127.0.0.1:2/v1"}
    path.write_text(POLICY.format(**urls, model=MODEL, max_in_flight=MAX_IN_FLIGHT))
    snapshot = compile_policy(path, env={"SIMULATED_API_KEY": "x"}, price_of=lambda provider, model: None)
    dedicated, shared = (candidate.target for candidate in snapshot.models[MODEL])
    assert (dedicated.lane, dedicated.max_in_flight) == (Lane.DEDICATED, MAX_IN_FLIGHT)
    assert shared.lane is Lane.SHARED
    assert shared.price is not None


async def test_a_request_goes_through_the_real_proxy_and_into_its_meters() -> None:
    ended: list[Visit] = []
    async with stage() as on_stage:
        load = Load(on_stage.url, MODEL, lambda visit, turn: ended.append(visit) if turn is Turn.ENDED else None)
        load.send()
        await load.drain(within_s=30)
        report = await on_stage.meters()
        folder = on_stage.proxy.log.parent
        process = on_stage.proxy.process
    assert [visit.failure for visit in ended] == [None]
    assert ended[0].headers["x-spillway-target"] == "simulated-engine"
    assert ended[0].headers["x-spillway-lane"] == "dedicated"
    assert report is not None
    assert [row.target for row in report.total.targets] == ["simulated-engine", "simulated-provider"]
    assert process.returncode == 0
    assert not folder.exists()


async def test_a_proxy_that_dies_is_noticed() -> None:
    async with stage() as on_stage:
        on_stage.proxy.process.kill()
        with pytest.raises(StageError, match="ended with status -9"):
            await on_stage.proxy.lost()
        assert await on_stage.meters() is None


async def test_a_proxy_that_cannot_start_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.cli.demo_stage.POLICY", "version: 1\nnonsense: {engine}{provider}\n")
    with pytest.raises(StageError, match=r"did not start:[^$]*nonsense"):
        async with stage():
            pytest.fail("nothing to play with")
