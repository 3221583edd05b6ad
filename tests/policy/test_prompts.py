"""Prompts are looked into exactly when a rule of the policy asks what they hold or how long they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.policy.policies import DIGEST, compiled

POLICY = """\
version: 1
targets:
  gpu:
    lane: dedicated
    url: http://gpu.internal:8000/v1
    model: up
    {target}
models: {{m: [gpu]}}
tenants:
  bank: {{keys: ["{digest}"], tpm: 2M}}
routes:
  - name: first
    match: {{{match}}}
    {route}
  - name: default
"""


def reads(tmp_path: Path, target: str = "", match: str = "stream: true", route: str = "") -> bool:
    text = POLICY.format(target=target, match=match, route=route, digest=DIGEST)
    return compiled(tmp_path, text).snapshot.reads_content


@pytest.mark.parametrize(
    "asking",
    [
        {"target": "supports: [tools]"},
        {"target": "supports: []"},
        {"target": "context_window: 128k"},
        {"match": "modality: [image]"},
        {"match": "modality: [text]"},
        {"match": "input_tokens: {min: 8k}"},
        {"match": "input_tokens: {max: 8k}"},
        {"route": "require: {max_usd_per_request: 0.05}"},
        {"route": "want: {max_usd_per_request: 0.05}"},
        {"route": "require: {max_usd_per_request: 0.05, mode: shadow}"},
        {"route": "want: {max_usd_per_request: 0.05, mode: shadow}"},
    ],
)
def test_a_rule_that_asks(tmp_path: Path, asking: dict[str, str]) -> None:
    assert reads(tmp_path, **asking)


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"match": "tools: true"},
        {"match": "tenant: bank"},
        {"route": "require: {tpm: 2M, ttft_p99: 800ms, uptime: 99%}"},
        {"target": "quantization: fp8"},
    ],
)
def test_rules_that_do_not(tmp_path: Path, other: dict[str, str]) -> None:
    assert not reads(tmp_path, **other)
