"""Request bodies for the tiny model, greedy so that the answer is always the same."""

from typing import Any

Body = dict[str, Any]

MESSAGES = [{"role": "user", "content": "Hello there"}]
SCHEMA = {
    "type": "object",
    "properties": {"known": {"type": "boolean"}},
    "required": ["known"],
    "additionalProperties": False,
}
OPENAI_TOOLS: Body = {
    "tools": [{"type": "function", "function": {"name": "note", "strict": True, "parameters": SCHEMA}}],
    "tool_choice": "required",
    "max_tokens": 120,
}
ANTHROPIC_TOOLS: Body = {
    "tools": [{"name": "note", "strict": True, "input_schema": SCHEMA}],
    "tool_choice": {"type": "tool", "name": "note"},
    "max_tokens": 120,
}
RESPONSES_TOOLS: Body = {
    "tools": [{"type": "function", "name": "note", "strict": True, "parameters": SCHEMA}],
    "tool_choice": "required",
    "max_output_tokens": 120,
}


def chat(**options: Any) -> Body:
    return {"model": "tiny", "messages": MESSAGES, "temperature": 0, "max_tokens": 8, **options}


def completion(**options: Any) -> Body:
    return {"model": "tiny", "prompt": "Once upon", "temperature": 0, "max_tokens": 8, **options}


def responses(**options: Any) -> Body:
    return {"model": "tiny", "input": "Hello there", "temperature": 0, "max_output_tokens": 8, **options}


def messages(**options: Any) -> Body:
    return {"model": "tiny", "messages": MESSAGES, "temperature": 0, "max_tokens": 8, **options}


GENERATING = {
    "/chat/completions": chat,
    "/completions": completion,
    "/responses": responses,
    "/messages": messages,
}
"""The endpoints that generate text, each with its body."""


def of_length(path: str, tokens: int, **options: Any) -> Body:
    """A request of `path` whose answer has exactly this many tokens."""
    limit = "max_output_tokens" if path == "/responses" else "max_tokens"
    return GENERATING[path](ignore_eos=True, **{limit: tokens}, **options)
