"""LangChain's `ChatOpenAI` and `OpenAI`. Address and key come from OPENAI_BASE_URL and OPENAI_API_KEY."""

import asyncio
import json
import os

import openai
from langchain_openai import ChatOpenAI, OpenAI

SCHEMA = {
    "title": "note",
    "description": "Note it",
    "type": "object",
    "properties": {"known": {"type": "boolean"}},
    "required": ["known"],
    "additionalProperties": False,
}
PROMPT = [("system", "Be brief."), ("user", "Hello there")]
OPTIONS = {"model": "tiny", "temperature": 0, "max_retries": 0, "base_url": os.environ["OPENAI_BASE_URL"]}

chat = ChatOpenAI(max_tokens=12, **OPTIONS)
roomy = ChatOpenAI(max_tokens=120, **OPTIONS)
responses = ChatOpenAI(max_tokens=12, use_responses_api=True, **OPTIONS)
complete = OpenAI(max_tokens=12, **OPTIONS)


async def asynchronous():
    return [chunk async for chunk in chat.astream(PROMPT)]


def refused(call):
    try:
        call()
    except openai.APIStatusError as error:
        return {"class": type(error).__name__, "status": error.status_code, "body": error.body}
    raise AssertionError("no error was raised")


CASES = {
    "invoke": lambda: chat.invoke(PROMPT),
    "stream": lambda: list(chat.stream(PROMPT)),
    "stream_usage": lambda: list(chat.stream(PROMPT, stream_usage=True)),
    "astream": lambda: asyncio.run(asynchronous()),
    "tool": lambda: roomy.bind_tools([SCHEMA], tool_choice="required", strict=True).invoke(PROMPT),
    "structured": lambda: roomy.with_structured_output(SCHEMA, method="json_schema", strict=True).invoke(PROMPT),
    "responses": lambda: responses.invoke(PROMPT),
    "responses_stream": lambda: list(responses.stream(PROMPT)),
    "complete": lambda: complete.invoke("Once upon"),
    "complete_stream": lambda: "".join(complete.stream("Once upon")),
    "error_unknown_model": lambda: refused(lambda: ChatOpenAI(**{**OPTIONS, "model": "nobody"}).invoke("Hello")),
    "error_too_long": lambda: refused(lambda: chat.invoke("Hello", max_tokens=100_000)),
}


def plain(value):
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


if __name__ == "__main__":
    results = {}
    for name, run in CASES.items():
        result = run()
        results[name] = [plain(part) for part in result] if isinstance(result, list) else plain(result)
    print(json.dumps(results))
