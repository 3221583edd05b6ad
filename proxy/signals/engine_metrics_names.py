"""Where each engine publishes its metrics, and what they are called there.

Theory of operation
-------------------
A `Dialect` maps the name of a sample to the field that it fills; a name in braces has to carry that label too. Where an
engine has renamed a metric, both names are listed, since an engine publishes one of them. Names are spelled with `:` or
`_` after the prefix, depending on who exports them, and both are understood.

Read off: vLLM 0.32 (`vllm/v1/metrics/loggers.py`), SGLang (`srt/observability/metrics_collector.py`), TensorRT-LLM
(`tensorrt_llm/metrics/collector.py` for `trtllm-serve`, `nv_trt_llm_*` for Triton's backend), TGI 3 (its reference of
metrics), llama.cpp (`tools/server/README.md`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.policy.model import Engine

RUNNING, WAITING, KV_USE, PULSE = "running", "waiting", "kv_use", "pulse"
INPUT_TOKENS, OUTPUT_TOKENS, PREEMPTIONS = "input_tokens", "output_tokens", "preemptions"
TTFT, QUEUE, E2E = "ttft", "queue", "e2e"
HISTOGRAMS = (TTFT, QUEUE, E2E)

LIVE_S = 0.0
BY_THE_STEP_S = 6.0
"""SGLang publishes its gauges every 40 decode steps, and TensorRT-LLM with a step only: neither does when it has just
become idle, SGLang for up to 30 s (sgl-project/sglang#26495). Gauges that have not moved for that long are not believed
anyway (`foreign.FROZEN_AFTER_S`), so this need not be longer.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What is called how. `paths` are below the engine's root, the best first; `lag_s` is how far the gauges may be
    behind; `hint` is what to do when there are no metrics.
    """

    paths: tuple[str, ...] = ("/metrics",)
    names: Mapping[str, str]
    lag_s: float = LIVE_S
    hint: str


_VLLM = Dialect(
    names={
        "vllm:num_requests_running": RUNNING,
        "vllm:num_requests_waiting": WAITING,
        "vllm:kv_cache_usage_perc": KV_USE,
        "vllm:gpu_cache_usage_perc": KV_USE,
        "vllm:num_preemptions_total": PREEMPTIONS,
        "vllm:prompt_tokens_total": INPUT_TOKENS,
        "vllm:generation_tokens_total": OUTPUT_TOKENS,
        "vllm:time_to_first_token_seconds": TTFT,
        "vllm:request_queue_time_seconds": QUEUE,
        "vllm:e2e_request_latency_seconds": E2E,
    },
    hint="is it a vLLM? it has metrics unless it was started with `--disable-log-stats`",
)
_SGLANG = Dialect(
    names={
        "sglang:num_running_reqs": RUNNING,
        "sglang:num_queue_reqs": WAITING,
        "sglang:token_usage": KV_USE,
        "sglang:gen_throughput": PULSE,
        "sglang:num_retracted_requests_total": PREEMPTIONS,
        "sglang:prompt_tokens_total": INPUT_TOKENS,
        "sglang:generation_tokens_total": OUTPUT_TOKENS,
        "sglang:time_to_first_token_seconds": TTFT,
        "sglang:queue_time_seconds": QUEUE,
        "sglang:e2e_request_latency_seconds": E2E,
    },
    lag_s=BY_THE_STEP_S,
    hint="start SGLang with `--enable-metrics`",
)
_TRTLLM = Dialect(
    paths=("/prometheus/metrics", "/metrics"),
    names={
        "trtllm:num_requests_running": RUNNING,
        "trtllm:num_requests_waiting": WAITING,
        "trtllm:kv_cache_utilization": KV_USE,
        "trtllm:iteration_latency_seconds": PULSE,
        "trtllm:prompt_tokens_total": INPUT_TOKENS,
        "trtllm:generation_tokens_total": OUTPUT_TOKENS,
        "trtllm:time_to_first_token_seconds": TTFT,
        "trtllm:request_queue_time_seconds": QUEUE,
        "trtllm:e2e_request_latency_seconds": E2E,
        'nv_trt_llm_request_metrics{request_type="scheduled"}': RUNNING,
        'nv_trt_llm_request_metrics{request_type="waiting"}': WAITING,
        'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction"}': KV_USE,
    },
    lag_s=BY_THE_STEP_S,
    hint="start `trtllm-serve` with `return_perf_metrics: true` and `enable_iter_perf_stats: true`",
)
_TGI = Dialect(
    names={
        "tgi_batch_current_size": RUNNING,
        "tgi_queue_size": WAITING,
        "tgi_batch_inference_count": PULSE,
        "tgi_request_queue_duration": QUEUE,
        "tgi_request_duration": E2E,
    },
    hint="is it a TGI?",
)
_LLAMACPP = Dialect(
    names={
        "llamacpp:requests_processing": RUNNING,
        "llamacpp:requests_deferred": WAITING,
        "llamacpp:kv_cache_usage_ratio": KV_USE,
        "llamacpp:n_decode_total": PULSE,
        "llamacpp:prompt_tokens_total": INPUT_TOKENS,
        "llamacpp:tokens_predicted_total": OUTPUT_TOKENS,
    },
    hint="start `llama-server` with `--metrics`",
)

DIALECTS: Mapping[Engine, Dialect] = {
    Engine.VLLM: _VLLM,
    Engine.SGLANG: _SGLANG,
    Engine.TRTLLM: _TRTLLM,
    Engine.TGI: _TGI,
    Engine.LLAMACPP: _LLAMACPP,
}
"""By engine; one that is not here publishes nothing that is known."""
