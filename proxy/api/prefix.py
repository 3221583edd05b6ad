"""The blocks of a prompt, as numbers that are equal where prompts begin alike: what caches of prompts go by.

Theory of operation
-------------------
Pure. An engine that caches prompts cuts them into blocks of tokens and hashes each together with all before it, so that
equal hashes mean equal beginnings. The same is done here with the bytes of the body, before anybody has tokenized them:
what the model sees (tools, instructions, messages, input, prompt) in the order in which chat templates lay it out, cut
every `BLOCK_BYTES`, which is about 512 tokens. Members that the model does not see (`stream`, `temperature`, `user`)
change nothing; those that change its prompt from the start (a template's arguments, a `cache_salt`) change all of it.

It is an approximation: JSON written otherwise looks like another prompt, and a template that places a late member early
has blocks that are not where they seem to be. The end of a prompt, short of a block, has no number, nor has anything
beyond `MOST_BLOCKS`. Prompts with encoded media have none at all, since their bytes are no measure of their tokens.

Numbers are Python's own hashes: SipHash with a key that each process draws for itself (PEP 456), the fastest there is
without a dependency (0.3 ns a byte). They mean nothing in another process, and nobody can make two of them collide.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from proxy.policy.model import Endpoint

BLOCK_BYTES = 2048
"""512 tokens at four bytes each, which is how the proxy estimates tokens everywhere."""
MOST_BLOCKS = 256
"""131,000 tokens: beyond, the time to hash would be felt by other requests."""

_SEEN: Mapping[Endpoint, tuple[str, ...]] = {
    Endpoint.CHAT: ("tools", "functions", "messages"),
    Endpoint.COMPLETIONS: ("prompt",),
    Endpoint.RESPONSES: ("tools", "instructions", "input"),
    Endpoint.MESSAGES: ("tools", "system", "messages"),
}
"""What the model sees, first things first; endpoints that generate nothing gain nothing from a cache."""

_CHANGING = frozenset({
    "cache_salt", "chat_template", "chat_template_kwargs", "conversation", "documents", "mm_processor_kwargs",
    "previous_response_id", "reasoning", "reasoning_effort", "thinking", "tool_choice", "truncate_prompt_tokens",
})  # fmt: skip
"""Members that put something before the rest, or that keep caches apart: vLLM's, SGLang's, OpenAI's, Anthropic's."""


def read_prefix(endpoint: Endpoint, model: str, members: Mapping[str, msgspec.Raw]) -> tuple[int, ...]:
    """The numbers of a prompt's whole blocks, of a request for the public model `model`."""
    names = _SEEN.get(endpoint)
    if names is None:
        return ()
    prompt = b"".join([members[name] for name in names if name in members])
    ends = range(BLOCK_BYTES, min(len(prompt), MOST_BLOCKS * BLOCK_BYTES) + 1, BLOCK_BYTES)
    number = hash((model, endpoint)) if _CHANGING.isdisjoint(members) else _changed(model, endpoint, members)
    numbers = []
    for end in ends:
        number = hash((number, prompt[end - BLOCK_BYTES : end]))
        numbers.append(number)
    return tuple(numbers)


def _changed(model: str, endpoint: Endpoint, members: Mapping[str, msgspec.Raw]) -> int:
    changing = [(name, bytes(members[name])) for name in sorted(_CHANGING.intersection(members))]
    return hash((model, endpoint, *changing))
