"""The engine simulator's `/metrics` against what it did."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families
from proxy.simulator.asks import CHAT
from proxy.simulator.engine import EngineSimulator
from tests.simulator.calls import FAST, USER, begin, exchange, sdk


async def test_metrics_have_vllms_names_and_agree_with_the_ledger() -> None:
    async with EngineSimulator(replace(FAST, max_requests=1)) as sim, sdk(sim) as client:
        await client.chat.completions.create(model=sim.model, messages=USER, max_tokens=7)
        leave = await begin(sim, 100_000)
        await sim.ledger.until(lambda: sim.ledger.entries[-1].output_tokens > 0)
        await exchange(sim, CHAT, {"messages": USER})
        _, _, body = await exchange(sim, "/metrics", None, method="GET")
        await leave()
    samples = {
        (sample.name, sample.labels.get("finished_reason") or sample.labels.get("reason")): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    assert samples["vllm:num_requests_running", None] == 1
    assert samples["vllm:num_requests_waiting", None] == 0
    assert 0 < samples["vllm:kv_cache_usage_perc", None] < 1
    assert samples["vllm:time_to_first_token_seconds_count", None] == 1
    assert samples["vllm:e2e_request_latency_seconds_count", None] == 1
    assert samples["vllm:request_success_total", "length"] == 1
    assert samples["vllm:admission_rejections_total", "max_num_queued_reqs"] == 1
    assert samples["vllm:generation_tokens_total", None] >= 7
