"""`spillway calibrate` on a real vLLM: the linear model predicts what it was not fitted to."""

from pathlib import Path

from tests.engine import vllm
from tests.engine.calibration import calibrated
from tests.engine.fixtures import ONE_ENGINE
from tests.engine.vllm import Engine

WITHIN = 0.15
ATTEMPTS = 3
"""A machine with other things to do makes an engine step unevenly, and that is then what is measured."""


def test_the_fit_predicts_runs_that_it_did_not_see(tmp_path: Path, engine: Engine) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(ONE_ENGINE.format(url=engine.url))
    for _ in range(ATTEMPTS):
        told = calibrated("engine", "--policy", str(policy), "--concurrency", "8", "--prompt-tokens", "4096")
        errors = {what: told["error"][what]["median"] for what in ("ttft", "itl")}
        if max(errors.values()) <= WITHIN:
            break
    assert max(errors.values()) <= WITHIN, errors
    assert min(told["profile"][name] for name in ("step_s", "prefill_token_s")) > 0
    assert told["profile"]["kv_tokens"] > vllm.MAX_MODEL_LEN
    assert told["error"]["itl"]["count"] >= 8
