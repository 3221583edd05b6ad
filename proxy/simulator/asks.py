"""What a request body asks of a simulator, in any of the dialects that it speaks.

Theory of operation
-------------------
`read_ask` turns a path and a body into an `Ask`, or into the `Problem` that the caller is told. Tokens are counted as a
simulator may: four UTF-8 bytes of text are one. The answer's length is the simulator's own, capped by the request's
limit; with vLLM's `ignore_eos` it is exactly that limit, which is how tests and loads choose it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import orjson

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"

_CONTENT = {
    CHAT: ("messages",),
    COMPLETIONS: ("prompt",),
    EMBEDDINGS: ("input",),
    RESPONSES: ("input",),
    MESSAGES: ("messages",),
    COUNT_TOKENS: ("messages",),
}
_EXTRA_CONTENT = ("system", "instructions", "tools")
_LIMITS = {
    CHAT: ("max_completion_tokens", "max_tokens"),
    COMPLETIONS: ("max_tokens",),
    RESPONSES: ("max_output_tokens",),
    MESSAGES: ("max_tokens",),
}
PATHS = frozenset(_CONTENT)

_MAX_ANSWER_TOKENS = 1_000_000


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One request's wishes. `inputs` are the texts of an embedding request, else empty."""

    path: str
    model: str
    input_tokens: int
    max_tokens: int | None = None
    ignore_eos: bool = False
    stream: bool = False
    include_usage: bool = False
    inputs: tuple[str, ...] = ()
    base64: bool = False

    def answer_tokens(self, natural: int) -> int:
        """How long the answer is when the simulator itself would stop after `natural` tokens."""
        if self.max_tokens is None:
            return natural
        return self.max_tokens if self.ignore_eos else min(natural, self.max_tokens)


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request is not answered. `type` and `code` are left to the server's own habit when empty."""

    status: int
    message: str
    type: str = ""
    code: str = ""
    param: str | None = None


def read_ask(path: str, body: bytes) -> Ask | Problem:
    """Understand the JSON `body` posted to `path`, one of `PATHS`."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return _invalid(f"the body is not JSON: {error.msg}", None)
    if not isinstance(fields, dict):
        return _invalid("the body is not a JSON object", None)
    problem = _first_problem(path, fields)
    if problem is not None:
        return problem
    content = [fields[name] for name in _CONTENT[path]]
    extra = [fields[name] for name in _EXTRA_CONTENT if name in fields]
    options = fields.get("stream_options")
    return Ask(
        path=path,
        model=fields.get("model", ""),
        input_tokens=sum(map(count_tokens, [*content, *extra])),
        max_tokens=_limit(path, fields)[1],
        ignore_eos=fields.get("ignore_eos") is True,
        stream=fields.get("stream") is True and path not in {EMBEDDINGS, COUNT_TOKENS},
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        inputs=_embedding_inputs(fields["input"]) if path == EMBEDDINGS else (),
        base64=fields.get("encoding_format") == "base64",
    )


def count_tokens(content: object) -> int:
    """Tokens of a text, of a list of token numbers, or of anything that holds texts: four bytes make one."""
    if isinstance(content, list) and content and all(isinstance(item, int) for item in content):
        return len(content)
    return max(1, (sum(len(text.encode("utf-8", "surrogatepass")) for text in _texts(content)) + 3) // 4)


def _texts(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for item in content:
            yield from _texts(item)
    elif isinstance(content, dict):
        for name, value in content.items():
            if name not in {"type", "role", "id", "image_url", "source"}:
                yield from _texts(value)


def _first_problem(path: str, fields: dict[str, Any]) -> Problem | None:
    if not isinstance(fields.get("model", ""), str):
        return _invalid("`model` is not a string", "model")
    for name in _CONTENT[path]:
        if not isinstance(fields.get(name), str | list) or not fields[name]:
            return _invalid(f"`{name}` is missing or empty", name)
    if path in {CHAT, MESSAGES, COUNT_TOKENS} and not all(isinstance(each, dict) for each in fields["messages"]):
        return _invalid("`messages` is not a list of objects", "messages")
    if path == COMPLETIONS and isinstance(fields["prompt"], list) and not _one_prompt(fields["prompt"]):
        return _invalid("the simulator answers one prompt a request", "prompt")
    if fields.get("n", 1) != 1:
        return _invalid("the simulator gives one choice: `n` must be 1", "n")
    name, limit = _limit(path, fields)
    if path == MESSAGES and limit is None:
        return _invalid("`max_tokens` is missing", "max_tokens")
    if limit is not None and (type(limit) is not int or not 1 <= limit <= _MAX_ANSWER_TOKENS):
        return _invalid(f"`{name}` must be between 1 and {_MAX_ANSWER_TOKENS}", name)
    return None


def _limit(path: str, fields: dict[str, Any]) -> tuple[str, Any]:
    for name in _LIMITS.get(path, ()):
        if fields.get(name) is not None:
            return name, fields[name]
    return "max_tokens", None


def _one_prompt(prompt: list[Any]) -> bool:
    return len(prompt) == 1 or all(isinstance(token, int) for token in prompt)


def _embedding_inputs(given: str | list[Any]) -> tuple[str, ...]:
    if isinstance(given, str) or all(isinstance(token, int) for token in given):
        return (str(given),)
    return tuple(str(each) for each in given)


def _invalid(message: str, param: str | None) -> Problem:
    return Problem(status=400, message=message, param=param)
