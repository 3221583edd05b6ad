"""Unchanged client libraries, straight to vLLM and through the proxy, with one result."""
