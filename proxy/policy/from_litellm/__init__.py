"""A policy from a LiteLLM proxy config, and notes on what has no equivalent: `config.py` is the whole of it."""
