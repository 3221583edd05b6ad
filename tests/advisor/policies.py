"""Small policies for replays: a pool of GPUs with a provider beside it, as the economics of the advisor have them."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from proxy.policy.compile import compile_policy
from proxy.policy.model import Snapshot

POLICY = """
version: 1
targets:
  gpu:
    lane: dedicated
    engine: vllm
    url: http://gpu:8000/v1
    model: meta-llama/Llama-3.3-70B-Instruct
    gpus: {{type: H100, count: 2, usd_per_hour: 2.99}}
    engine_profile: 70b-fp8-2xh100
    max_batched_tokens: 384
  api:
    lane: shared
    url: https://api.example.com/v1
    provider: openai
    model: meta-llama/Llama-3.3-70B-Instruct
    api_key: ${{KEY}}
    price: {{input: {input}, output: {output}}}
models:
  llama: [gpu, api]
routes:
  - name: default
    want: {{ttft_p99: 2s, itl_p99: 50ms}}
    prefer: {prefer}
"""


@cache
def pool(price_input: float = 0.72, price_output: float = 0.72, prefer: str = "cost") -> Snapshot:
    """One replica of two GPUs, and an API."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.yaml"
        path.write_text(POLICY.format(input=price_input, output=price_output, prefer=prefer), encoding="utf-8")
        return compile_policy(path, env={"KEY": "test"}, price_of=lambda *_: None)
