"""End to end against a real vLLM on this machine's CPU."""
