"""Pages of metrics as engines publish them, cut down to what matters and a few lines that do not."""

from __future__ import annotations

VLLM = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="llama"} 3.0
vllm:num_requests_running{engine="1",model_name="llama"} 2.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
vllm:num_requests_waiting{engine="0",model_name="llama"} 4.0
vllm:num_requests_waiting{engine="1",model_name="llama"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="llama",reason="capacity"} 4.0
vllm:engine_sleep_state{engine="0",model_name="llama",sleep_state="awake"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="llama"} 0.5
vllm:kv_cache_usage_perc{engine="1",model_name="llama"} 0.25
vllm:prefix_cache_queries_total{engine="0",model_name="llama"} 1000.0
vllm:prefix_cache_queries_created{engine="0",model_name="llama"} 1.7e+09
vllm:prefix_cache_hits_total{engine="0",model_name="llama"} 250.0
vllm:num_preemptions_total{engine="0",model_name="llama"} 1.0
vllm:num_preemptions_total{engine="1",model_name="llama"} 2.0
vllm:prompt_tokens_total{engine="0",model_name="llama"} 1.2e+06
vllm:generation_tokens_total{engine="0",model_name="llama"} 50000.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.1",model_name="llama"} 1.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="1.0",model_name="llama"} 3.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="llama"} 4.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="llama"} 4.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="llama"} 3.05
vllm:time_to_first_token_seconds_bucket{engine="1",le="0.1",model_name="llama"} 2.0
vllm:time_to_first_token_seconds_bucket{engine="1",le="1.0",model_name="llama"} 2.0
vllm:time_to_first_token_seconds_bucket{engine="1",le="+Inf",model_name="llama"} 2.0
vllm:time_to_first_token_seconds_sum{engine="1",model_name="llama"} 0.1
vllm:request_queue_time_seconds_bucket{engine="0",le="+Inf",model_name="llama"} 4.0
vllm:request_queue_time_seconds_sum{engine="0",model_name="llama"} 2.0
"""

SGLANG = b"""\
sglang:num_running_reqs{model_name="llama",tp_rank="0",pp_rank="0",dp_rank="0",priority=""} 5.0
sglang:num_running_reqs{model_name="llama",tp_rank="0",pp_rank="0",dp_rank="0",priority="1"} 2.0
sglang:num_running_reqs{model_name="llama",tp_rank="0",pp_rank="0",dp_rank="0",priority="9"} 3.0
sglang:num_running_reqs{model_name="llama",tp_rank="1",pp_rank="0",dp_rank="0",priority=""} 5.0
sglang:num_running_reqs{model_name="llama",tp_rank="2",pp_rank="0",dp_rank="1",priority=""} 7.0
sglang:num_queue_reqs{model_name="llama",tp_rank="0",pp_rank="0",dp_rank="0",priority=""} 1.0
sglang:token_usage{model_name="llama",tp_rank="0",pp_rank="0",dp_rank="0",priority=""} 0.28
sglang:gen_throughput{model_name="llama",tp_rank="0",pp_rank="0",dp_rank="0",priority=""} 86.5
sglang:num_retracted_requests_total{model_name="llama"} 4.0
sglang:prompt_tokens_total{model_name="llama"} 8.128902e+06
sglang:generation_tokens_total{model_name="llama"} 7.557572e+06
sglang:cached_tokens_total{model_name="llama",cache_source="device"} 100.0
sglang:cached_tokens_total{model_name="llama",cache_source="host"} 11.0
sglang:time_to_first_token_seconds_sum{model_name="llama"} 2.0
sglang:time_to_first_token_seconds_bucket{le="0.5",model_name="llama"} 2.0
sglang:time_to_first_token_seconds_bucket{le="+Inf",model_name="llama"} 3.0
sglang:queue_time_seconds_sum{model_name="llama"} 0.3
sglang:queue_time_seconds_bucket{le="+Inf",model_name="llama"} 3.0
"""

TRTLLM = b"""\
trtllm_num_requests_running{engine_type="trtllm",model_name="llama"} 6.0
trtllm_num_requests_waiting{engine_type="trtllm",model_name="llama"} 2.0
trtllm_kv_cache_utilization{engine_type="trtllm",model_name="llama"} 0.75
trtllm_iteration_latency_seconds{engine_type="trtllm",model_name="llama"} 0.0155
trtllm_e2e_request_latency_seconds_bucket{engine_type="trtllm",le="+Inf",model_name="llama"} 9.0
trtllm_e2e_request_latency_seconds_sum{engine_type="trtllm",model_name="llama"} 18.0
"""

DYNAMO = TRTLLM.replace(b"trtllm_", b"trtllm:")

TRITON = b"""\
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="context",version="1"} 1
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="scheduled",version="1"} 8
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="max",version="1"} 512
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="active",version="1"} 10
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="waiting",version="1"} 2
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="used",model="tensorrt_llm",version="1"} 40
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="tensorrt_llm",version="1"} 0.4
"""

TRTLLM_STEPS = b"""[
{"iter": 153, "numActiveRequests": 1, "numQueuedRequests": 0, "kvCacheStats": {"usedNumBlocks": 3, "maxNumBlocks": 10}},
{"iter": 154, "iterLatencyMS": 7.0, "numActiveRequests": 4, "numQueuedRequests": 2, "gpuMemUsage": 76665782272,
 "kvCacheStats": {"allocNewBlocks": 1, "usedNumBlocks": 5, "maxNumBlocks": 10}}
]"""

TGI = b"""\
# TYPE tgi_queue_size gauge
tgi_queue_size 3
# TYPE tgi_batch_current_size gauge
tgi_batch_current_size 12
tgi_batch_inference_count{method="prefill"} 100
tgi_batch_inference_count{method="decode"} 900
tgi_request_queue_duration_bucket{le="0.5"} 1
tgi_request_queue_duration_bucket{le="+Inf"} 4
tgi_request_queue_duration_sum 4.5
tgi_request_queue_duration_count 4
"""

LLAMACPP = b"""\
# HELP llamacpp:requests_processing Number of requests processing.
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 2
llamacpp:requests_deferred 1
llamacpp:kv_cache_usage_ratio 0.125
llamacpp:prompt_tokens_total 1024
llamacpp:tokens_predicted_total 77
llamacpp:n_decode_total 4001
"""
