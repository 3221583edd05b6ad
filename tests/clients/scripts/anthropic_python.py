"""The `anthropic` package. Address and key come from ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN."""

import asyncio
import json
import warnings

import anthropic

client = anthropic.Anthropic(max_retries=0)
MODEL = "tiny"
MESSAGES = [{"role": "user", "content": "Hello there"}]
TOOL = {
    "name": "note",
    "strict": True,
    "input_schema": {
        "type": "object",
        "properties": {"known": {"type": "boolean"}},
        "required": ["known"],
        "additionalProperties": False,
    },
}
TOOLS = {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "note"}, "max_tokens": 120}


def ask(**options):
    extra = {"temperature": 0, **options.pop("extra_body", {})}
    return client.messages.create(model=MODEL, messages=MESSAGES, extra_body=extra, **{"max_tokens": 12, **options})


def helped():
    """The package's own accumulating stream."""
    with client.messages.stream(model=MODEL, messages=MESSAGES, max_tokens=12, extra_body={"temperature": 0}) as stream:
        return {"text": "".join(stream.text_stream), "message": plain(stream.get_final_message())}


async def asynchronous():
    async with anthropic.AsyncAnthropic(max_retries=0) as other:
        stream = await other.messages.create(
            model=MODEL, messages=MESSAGES, max_tokens=5, stream=True, extra_body={"temperature": 0}
        )
        return [event async for event in stream]


def refused(call):
    try:
        call()
    except anthropic.APIStatusError as error:
        return {"class": type(error).__name__, "status": error.status_code, "body": error.body}
    raise AssertionError("no error was raised")


CASES = {
    "messages": ask,
    "messages_system": lambda: ask(system="Be brief."),
    "messages_stop": lambda: ask(stop_sequences=[" the", "e"], max_tokens=60),
    "messages_tool": lambda: ask(**TOOLS),
    "messages_extra": lambda: ask(extra_body={"top_k": 1, "unheard_of": 1}),
    "messages_stream": lambda: list(ask(stream=True)),
    "messages_stream_tool": lambda: list(ask(stream=True, **TOOLS)),
    "messages_stream_helper": helped,
    "messages_stream_async": lambda: asyncio.run(asynchronous()),
    "count_tokens": lambda: client.messages.count_tokens(model=MODEL, messages=MESSAGES),
    "error_too_long": lambda: refused(lambda: ask(max_tokens=10_000)),
    "error_too_long_stream": lambda: refused(lambda: ask(max_tokens=10_000, stream=True)),
    "error_unknown_model": lambda: refused(
        lambda: client.messages.create(model="nobody", messages=MESSAGES, max_tokens=1)
    ),
    "error_wrong_key": lambda: refused(
        lambda: anthropic.Anthropic(api_key=None, auth_token="wrong", max_retries=0).messages.create(
            model=MODEL, messages=MESSAGES, max_tokens=1
        )
    ),
}


def plain(value):
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    results = {}
    for name, run in CASES.items():
        result = run()
        results[name] = [plain(part) for part in result] if isinstance(result, list) else plain(result)
    print(json.dumps(results))
