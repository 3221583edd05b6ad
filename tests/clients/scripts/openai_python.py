"""The `openai` package, any major version from 1 on. Address and key come from OPENAI_BASE_URL and OPENAI_API_KEY."""

import asyncio
import json

import openai

client = openai.OpenAI(max_retries=0)
MODEL = "tiny"
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello there"}]
SCHEMA = {
    "type": "object",
    "properties": {"known": {"type": "boolean"}},
    "required": ["known"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {"name": "note", "description": "Note it", "strict": True, "parameters": SCHEMA},
}
RESPONSE_TOOL = {"type": "function", "name": "note", "strict": True, "parameters": SCHEMA}


def chat(**options):
    return client.chat.completions.create(
        model=MODEL, messages=MESSAGES, **{"temperature": 0, "max_tokens": 12, **options}
    )


def completion(**options):
    return client.completions.create(model=MODEL, prompt="Once upon", temperature=0, max_tokens=12, **options)


def response(**options):
    return client.responses.create(
        model=MODEL, input="Hello there", temperature=0, **{"max_output_tokens": 12, **options}
    )


def refused(call):
    """What the application sees of an error: its class, and what it may read from it."""
    try:
        call()
    except openai.APIStatusError as error:
        return {"class": type(error).__name__, "status": error.status_code, "body": error.body}
    raise AssertionError("no error was raised")


async def asynchronous():
    async with openai.AsyncOpenAI(max_retries=0) as other:
        stream = await other.chat.completions.create(
            model=MODEL, messages=MESSAGES, temperature=0, max_tokens=5, stream=True
        )
        return [chunk async for chunk in stream]


def abandoned():
    """Leaves a stream after its first chunk, then asks again on the same connection pool."""
    with chat(max_tokens=500, stream=True) as stream:
        first = next(iter(stream))
    return [first, chat(max_tokens=3)]


wrong_key = client.with_options(api_key="wrong")
CASES = {
    "chat": chat,
    "chat_again": chat,
    "chat_logprobs": lambda: chat(logprobs=True, top_logprobs=2),
    "chat_sampled_twice": lambda: chat(n=2, seed=5, temperature=0.8),
    "chat_stop": lambda: chat(stop=[" the", "e"], max_tokens=60),
    "chat_tool": lambda: chat(tools=[TOOL], tool_choice="required", max_tokens=120),
    "chat_json": lambda: chat(
        max_tokens=60, response_format={"type": "json_schema", "json_schema": {"name": "known", "schema": SCHEMA}}
    ),
    "chat_extra": lambda: chat(extra_body={"top_k": 1, "min_tokens": 12, "return_token_ids": True, "unheard_of": 1}),
    "chat_stream": lambda: list(chat(stream=True)),
    "chat_stream_usage": lambda: list(chat(stream=True, stream_options={"include_usage": True})),
    "chat_stream_logprobs": lambda: list(chat(stream=True, logprobs=True, top_logprobs=2)),
    "chat_stream_twice": lambda: sorted(
        chat(stream=True, n=2, seed=5, temperature=0.8), key=lambda chunk: chunk.choices[0].index
    ),
    "chat_stream_tool": lambda: list(chat(stream=True, tools=[TOOL], tool_choice="required", max_tokens=120)),
    "chat_stream_one_token": lambda: list(chat(stream=True, max_tokens=1)),
    "chat_stream_async": lambda: asyncio.run(asynchronous()),
    "chat_stream_abandoned": abandoned,
    "completions": lambda: completion(logprobs=1, echo=True),
    "completions_stream": lambda: list(completion(stream=True)),
    "completions_stream_usage": lambda: list(completion(stream=True, stream_options={"include_usage": True})),
    "responses": response,
    "responses_stream": lambda: list(response(stream=True)),
    "responses_tool": lambda: response(tools=[RESPONSE_TOOL], tool_choice="required", max_output_tokens=120),
    "responses_stream_tool": lambda: list(
        response(stream=True, tools=[RESPONSE_TOOL], tool_choice="required", max_output_tokens=120)
    ),
    "models": lambda: [model.id for model in client.models.list()],
    "error_bad_field": lambda: refused(lambda: chat(temperature=-5)),
    "error_bad_field_stream": lambda: refused(lambda: chat(temperature=-5, stream=True)),
    "error_too_long": lambda: refused(lambda: chat(max_tokens=100_000)),
    "error_unknown_model": lambda: refused(lambda: client.completions.create(model="nobody", prompt="x")),
    "error_wrong_key": lambda: refused(lambda: wrong_key.completions.create(model=MODEL, prompt="x")),
}


def plain(value):
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


if __name__ == "__main__":
    results = {}
    for name, run in CASES.items():
        result = run()
        results[name] = [plain(part) for part in result] if isinstance(result, list) else plain(result)
    print(json.dumps(results))
