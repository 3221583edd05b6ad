"""The engine simulator's `/metrics`, under the names and labels that vLLM 0.32 uses."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from proxy.simulator.ledger import Entry
from proxy.simulator.step_model import Step, StepModel

_TTFT_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0)
_E2E_BUCKETS = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0)


class EngineMetrics:
    """Gauges read the step model when they are scraped; times are real seconds, whatever the simulator's speed."""

    def __init__(self, model: str, steps: StepModel) -> None:
        self._registry = CollectorRegistry()
        labels = {"model_name": model, "engine": "0"}
        names = list(labels)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, names, registry=self._registry).labels(**labels)

        def counter(name: str, text: str) -> Counter:
            return Counter(name, text, names, registry=self._registry).labels(**labels)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, names, registry=self._registry, buckets=buckets).labels(**labels)

        gauge("vllm:num_requests_running", "Requests in the batch (simulated).").set_function(lambda: steps.running)
        gauge("vllm:num_requests_waiting", "Requests waiting (simulated).").set_function(lambda: steps.waiting)
        gauge("vllm:kv_cache_usage_perc", "KV cache use, 1 is full (simulated).").set_function(
            lambda: steps.kv_tokens / steps.profile.kv_tokens
        )
        self._preemptions = counter("vllm:num_preemptions", "Preemptions (simulated).")
        self._input_tokens = counter("vllm:prompt_tokens", "Prefill tokens (simulated).")
        self._output_tokens = counter("vllm:generation_tokens", "Generated tokens (simulated).")
        self._ttft = histogram("vllm:time_to_first_token_seconds", "Time to first token (simulated).", _TTFT_BUCKETS)
        self._itl = histogram(
            "vllm:request_time_per_output_token_seconds", "Mean gap between tokens (simulated).", _TTFT_BUCKETS
        )
        self._e2e = histogram("vllm:e2e_request_latency_seconds", "Whole request (simulated).", _E2E_BUCKETS)
        success = Counter(
            "vllm:request_success", "Ended requests (simulated).", [*names, "finished_reason"], registry=self._registry
        )
        self._ended = {
            reason: success.labels(**labels, finished_reason=reason) for reason in ("stop", "length", "abort")
        }
        self._rejections = Counter(
            "vllm:admission_rejections",
            "Refused as full (simulated).",
            ["model_name", "reason"],
            registry=self._registry,
        ).labels(model_name=model, reason="max_num_queued_reqs")

    def page(self) -> tuple[str, bytes]:
        """Content type and text of the exposition."""
        return CONTENT_TYPE_LATEST, generate_latest(self._registry)

    def stepped(self, step: Step) -> None:
        """A step has ended."""
        self._input_tokens.inc(step.input_tokens)
        self._output_tokens.inc(step.output_tokens)
        if step.preempted:
            self._preemptions.inc(len(step.preempted))

    def finished(self, entry: Entry, cut: bool) -> None:
        """A request is answered in full; `cut` when at its own limit."""
        self._ended["length" if cut else "stop"].inc()
        if entry.ended_s is None:
            return
        self._e2e.observe(entry.ended_s - entry.arrived_s)
        if entry.first_token_s is not None:
            self._ttft.observe(entry.first_token_s - entry.arrived_s)
            self._itl.observe((entry.ended_s - entry.first_token_s) / max(1, entry.output_tokens - 1))

    def aborted(self) -> None:
        """A client has left."""
        self._ended["abort"].inc()

    def rejected(self) -> None:
        """A request found the engine full."""
        self._rejections.inc()
