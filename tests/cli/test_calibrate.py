"""`spillway calibrate`: whom it asks what, when it stops, and what it says."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from proxy.advisor.experiment import GREETING_TOKENS, Run, cost, design
from proxy.advisor.fit import fit
from proxy.advisor.timings import Observed, decoding, joining, reading
from proxy.cli.calibrate import _announce, _Bounds
from proxy.cli.calibrate_report import Aim, Calibration, as_json, as_text
from proxy.cli.calibrate_runs import carry_out
from proxy.cli.calibrate_streams import Engine, EngineFailed, EngineFull, Place, Recording, Standing
from proxy.cli.command import app
from proxy.policy.compile import compile_policy
from proxy.policy.model import Secret
from proxy.simulator.engine import EngineSimulator
from proxy.simulator.profile import PROFILES, Profile
from tests.advisor.played import played
from tests.policy.policies import no_price
from typer.testing import CliRunner, Result

QUICK = Profile(
    name="quick", step_s=2e-3, decode_s=50e-6, kv_s=10e-9, prefill_s=5e-6, attention_s=1e-9, kv_tokens=400_000
)
MODEL = "simulated-llama"
RUNS = (
    Run(joining=(64, 256)),
    Run(decoders=3, prompt_tokens=64),
    Run(decoders=2, prompt_tokens=32, joining=(128, 256)),
)
AIM = Aim(itl_s=0.05, ttft_s=2.0, input_tokens=1000, output_tokens=200)


def place(engine: EngineSimulator, **changed: Any) -> Place:
    return Place(**{"url": engine.url, "model": MODEL, **changed})


async def test_streams_are_of_the_length_that_is_asked_for_and_never_the_same() -> None:
    async with EngineSimulator(QUICK, model=MODEL, api_key="sk-engine") as simulated:
        async with Engine(place(simulated, api_key=Secret("sk-engine"))) as engine:
            await engine.greet()
            greeting = engine.spent_tokens
            recordings = [Recording(prompt_tokens=tokens) for tokens in (40, 500)]
            for recording in recordings:
                await engine.stream(20, recording)
            assert engine._text(200) != engine._text(200)
        asked = list(simulated.ledger.entries)[-2:]
        assert [entry.input_tokens for entry in asked] == pytest.approx([40, 500], abs=2)
        for recording, tokens in zip(recordings, (40, 500), strict=True):
            stream = recording.stream
            assert (recording.ended, recording.count, stream.prompt_tokens) == (True, 20, pytest.approx(tokens, abs=2))
            assert stream.sent_s < stream.first_s < stream.times_s[-1]
            assert stream.tokens == tuple(sorted(set(stream.tokens)))
        assert engine.spent_tokens == greeting + sum(one.prompt_tokens + 20 for one in recordings)
        assert greeting < GREETING_TOKENS


async def test_runs_are_carried_out_and_the_engine_is_left_idle() -> None:
    told: list[Run] = []
    async with EngineSimulator(QUICK, model=MODEL) as simulated:
        async with Engine(place(simulated)) as engine:
            observed = await carry_out(engine, RUNS, 60.0, lambda run, _: told.append(run))
        async with asyncio.timeout(10):
            await simulated.ledger.until(lambda: not simulated.open_requests)
    alone, together, beside = observed
    assert tuple(told) == RUNS
    assert [row.prompt_tokens for row in reading(alone, 2048)] == pytest.approx([64, 256], abs=2)
    assert {row.sequences for row in decoding(together)} == {3}
    assert [row.prompt_tokens for row in joining(beside)] == pytest.approx([128, 256], abs=2)


async def test_a_load_that_takes_too_long_ends_with_what_there_is() -> None:
    async with EngineSimulator(replace(QUICK, step_s=0.05), model=MODEL) as simulated:
        async with Engine(place(simulated)) as engine:
            observed = await carry_out(engine, RUNS, 1.5, lambda *_: None)
    assert len(observed) < len(RUNS)


async def test_an_engine_that_is_full_is_left_alone_at_once() -> None:
    async with EngineSimulator(replace(QUICK, max_requests=2), model=MODEL) as simulated:
        async with Engine(place(simulated)) as engine:
            with pytest.raises(EngineFull, match="the engine answered 503"):
                await carry_out(engine, RUNS, 60.0, lambda *_: None)
        assert len(list(simulated.ledger.entries)) < 10


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"api_key": Secret("sk-wrong")}, "answered 401"),
        ({"url": "http://127.0.0.1:9/v1"}, "`http://127.0.0.1:9/v1`: "),
        ({"parameters": {"n": 2}}, "takes no streamed completion: the engine answered 400"),
    ],
)
async def test_an_engine_that_cannot_be_measured_says_why(changed: dict[str, Any], message: str) -> None:
    async with EngineSimulator(QUICK, model=MODEL, api_key="sk-engine") as simulated:
        given = {"api_key": Secret("sk-engine"), **changed}
        async with Engine(place(simulated, **given)) as engine:
            with pytest.raises(EngineFailed) as failed:
                await engine.greet()
    assert message in str(failed.value)
    assert "sk-" not in str(failed.value)


async def test_the_standing_is_that_of_the_metrics() -> None:
    async with EngineSimulator(QUICK, model=MODEL) as simulated:
        async with Engine(place(simulated)) as engine:
            await engine.greet()
            others = asyncio.create_task(engine.stream(5000, Recording(prompt_tokens=10)))
            async with asyncio.timeout(10):
                await simulated.ledger.until(lambda: simulated.open_requests == 1)
            assert (await engine.standing()).requests == 1
            others.cancel()
    async with Engine(Place(url="http://127.0.0.1:9/v1", model=MODEL)) as engine:
        assert (await engine.standing()).requests == 0


@pytest.mark.parametrize(
    ("events", "tokens"),
    [
        ([{"choices": [{"text": "a"}]}, {"choices": [{"text": "b"}]}], (1, 2)),
        (
            [
                {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
                {"choices": [{"delta": {"content": "a"}}]},
            ],
            (1,),
        ),
        ([{"choices": [{"text": "a b"}], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}], (2,)),
        ([{"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 9}}], ()),
    ],
)
def test_tokens_are_counted_as_the_engine_says_or_by_the_event(
    events: list[dict[str, Any]], tokens: tuple[int]
) -> None:
    recording = Recording(prompt_tokens=7)
    for now, event in enumerate(events):
        recording.hear(event, float(now))
    assert recording.stream.tokens == tokens


def test_an_error_within_a_stream_is_one() -> None:
    with pytest.raises(EngineFailed, match="out of memory"):
        Recording(prompt_tokens=1).hear({"error": {"message": "out of memory"}}, 0.0)


POLICY = """
version: 1
targets:
  gpu: {lane: dedicated, engine: vllm, url: "http://127.0.0.1:9/v1", model: up, region: eu, retention: zero}
  api: {lane: shared, url: "https://api.example.com/v1", model: up, price: {input: 1, output: 1}}
models: {m: [gpu, api]}
"""


def calibrate(tmp_path: Path, *arguments: str) -> Result:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return CliRunner().invoke(app, ["calibrate", *(path if one == "POLICY" else one for one in map(str, arguments))])


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["api", "--policy", "POLICY"], 2, "`api` is a shared target"),
        (["gpus", "--policy", "POLICY"], 2, "no target `gpus` in"),
        (["gpu", "--policy", "POLICY", "--replica", "1"], 2, "there is no `--replica 1`"),
        (["gpu", "--policy", "nowhere.yaml"], 2, "no such file or folder: `nowhere.yaml`"),
        (["gpu"], 2, "name a target and its `--policy`"),
        (["--url", "http://127.0.0.1:9/v1"], 2, "`--url` needs `--model`"),
        (["--url", "http://127.0.0.1:9/v1", "--model", "m", "--api-key-env", "UNSET_KEY"], 2, "`UNSET_KEY` is not set"),
        (["gpu", "--policy", "POLICY", "--max-tokens", "10"], 2, "10 tokens are too few"),
        (["gpu", "--policy", "POLICY", "--itl", "50"], 2, "duration without a unit"),
        (["gpu", "--policy", "POLICY"], 1, "not calibrated: `http://127.0.0.1:9/v1`"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(tmp_path: Path, arguments: list[str], status: int, message: str) -> None:
    result = calibrate(tmp_path, *arguments)
    assert result.exit_code == status
    assert message in " ".join(result.output.split())


def test_no_prompt_is_longer_than_what_the_engine_takes() -> None:
    bounds = _Bounds(120.0, 500_000, 32, 8192)
    assert bounds.runs(None, None) == design(8192, 32)
    for windows in ((4096, None), (None, 4096), (32_768, 4096)):
        runs = bounds.runs(*windows)
        assert max(tokens for run in runs for tokens in (run.prompt_tokens, *run.joining)) < 4096


async def test_an_engine_says_what_it_takes() -> None:
    """As vLLM does; the simulator says less."""

    def reply(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/metrics":
            cache = 'vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="2048",sliding_window="None"} 1.0'
            return httpx.Response(200, text=f'vllm:num_requests_running{{engine="0"}} 2.0\n{cache}\n')
        return httpx.Response(200, text='{"data": [{"id": "up", "max_model_len": 8192}]}')

    engine = Engine(Place(url="http://gpu:8000/v1", model="up"))
    engine._http = httpx.AsyncClient(transport=httpx.MockTransport(reply))
    async with engine:
        standing = await engine.standing()
    assert standing == Standing(kv_tokens=32_768, context_tokens=8192, requests=2)


def test_it_says_before_what_it_will_send(capsys: pytest.CaptureFixture[str]) -> None:
    runs = design(8192, 32)
    _announce(Place(url="http://gpu:8000/v1", model="up"), runs, 120.0)
    said = capsys.readouterr().err
    assert f"at most {cost(runs):,} tokens and 120 s, up to 32 requests at one time" in said


def found(profile: Profile, aim: Aim = AIM, runs: tuple[Run, ...] = design(8192, 32)) -> Calibration:
    from proxy.advisor.engine_advice import advise

    observed: list[Observed] = played(profile, runs)
    fitted = fit(observed, kv_tokens=profile.kv_tokens)
    advice = advise(
        fitted.profile,
        itl_s=aim.itl_s,
        ttft_s=aim.ttft_s,
        input_tokens=aim.input_tokens,
        output_tokens=aim.output_tokens,
    )
    return Calibration(
        target="gpu",
        url="http://gpu:8000/v1",
        model="up",
        fit=fitted,
        aim=aim,
        advice=advice,
        runs=len(runs),
        planned=10,
        tokens=260_000,
        seconds=31.0,
    )


def test_what_it_prints_can_be_pasted_into_the_policy(tmp_path: Path) -> None:
    text = as_text(found(PROFILES["70b-fp8-2xh100"]))
    assert "--max-num-batched-tokens 384 --max-num-seqs 80 --max-num-queued-reqs" in text
    assert "first token   median" in text
    keys = text.partition("in the policy\n")[2].replace("    ", "\n    ").replace("\n\n", "\n")
    path = tmp_path / "policy.yaml"
    path.write_text(
        "version: 1\ntargets:\n  gpu:\n    lane: dedicated\n    url: http://gpu:8000/v1\n    model: up\n"
        f"    region: eu\n    retention: zero{keys}\nmodels: {{m: [gpu]}}\n"
    )
    target = compile_policy(path, env={}, price_of=no_price).targets["gpu"]
    assert target.profile is not None
    assert target.profile.step_s == pytest.approx(16e-3, rel=0.02)
    assert (target.profile.kv_tokens, target.max_batched_tokens) == (471_000, 384)


def test_the_same_as_json() -> None:
    told = json.loads(as_json(found(PROFILES["70b-fp8-2xh100"])))
    assert told["profile"]["prefill_token_s"] == pytest.approx(70e-6, rel=0.02)
    assert told["advice"]["max_batched_tokens"] == 384
    assert told["error"]["itl"]["p90"] < 0.02
    assert told["policy"][0].startswith("engine_profile: {step: 16ms")


def test_it_admits_what_it_does_not_know() -> None:
    hopeless = replace(AIM, itl_s=0.01)
    runs = tuple(run for run in design(8192, 32) if not run.held_out)
    told = as_text(found(PROFILES["70b-fp8-2xh100"], hopeless, runs))
    assert "no way to start it keeps 10ms between tokens" in told
    assert "7 runs of 10, which is all that there was time for" in told
    assert "gaps          unknown: no such run was carried out" in told
    assert "max_batched_tokens" not in told
