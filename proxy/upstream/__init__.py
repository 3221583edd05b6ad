"""HTTP out: bytes to OpenAI-compatible upstreams (`passthrough`), everything else through LiteLLM (`translated`)."""
