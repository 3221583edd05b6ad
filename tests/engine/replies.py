"""Replies freed of what differs between two runs of the same thing straight to the same engine, so that they can be
compared.

Three things do. Ids and times are new each time. And where one chunk of a stream ends and the next begins is the
engine's timing: vLLM puts two tokens into one event when its server is a little late. So the chunks of a stream are
joined before they are compared, as a client joins them: text grows, absent fields are filled in, and whatever does not
fit stays an event of its own. A lost, doubled, reordered or changed event still shows.
"""

import json
import re
from collections.abc import Iterator
from itertools import pairwise, zip_longest
from typing import Any

TIMES = {"created", "created_at", "completed_at"}
ID_KEYS = {"id", "item_id", "call_id", "response_id", "tool_call_id"}
GENERATED = re.compile(r"^(chatcmpl|cmpl|embd|resp|msg|fc|rs|lc_run|lc_rs|call|run)[-_]")

GROWING_TEXT = {"content", "text", "delta", "arguments", "partial_json"}
GROWING_LISTS = {"content", "token_ids"}
SEQUENCE = "sequence_number"
ABSENT = "(absent)"


class DoesNotFit(Exception):
    """Two events are not parts of one thing."""


def events(stream: bytes) -> list[dict[str, Any]]:
    """The events of a stream, by field; the data of all but `[DONE]` as JSON. Comments, which keep a connection alive,
    are no events."""
    assert stream.endswith(b"\n\n"), f"the stream ends within an event: {stream[-80:]!r}"
    parts = [event.split("\n") for event in stream.decode().split("\n\n")[:-1]]
    return [dict(field(line) for line in lines) for lines in parts if not all(line.startswith(":") for line in lines)]


def field(line: str) -> tuple[str, Any]:
    name, _, value = line.partition(":")
    value = value.removeprefix(" ")
    return name, json.loads(value) if name == "data" and value != "[DONE]" else value


def normalised(result: Any) -> Any:
    """The result with its streams joined, times blanked and every generated id replaced by its order of appearance."""
    seen: dict[str, str] = {}

    def walk(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: walk(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [walk(each, key) for each in value]
        if key in TIMES and value is not None:
            return "time"
        if key in ID_KEYS and isinstance(value, str) and GENERATED.match(value):
            return seen.setdefault(value, f"id {len(seen) + 1}")
        return value

    if isinstance(result, dict) and isinstance(result.get("body"), list):
        return {**result, "body": joined(walk(result["body"]))}
    return joined(walk(result)) if isinstance(result, list) else walk(result)


def differences(expected: Any, seen: Any, path: str = "") -> Iterator[str]:
    """Each place where two results differ, with both values."""
    if isinstance(expected, dict) and isinstance(seen, dict):
        for key in expected | seen:
            yield from differences(expected.get(key, ABSENT), seen.get(key, ABSENT), f"{path}.{key}")
    elif isinstance(expected, list) and isinstance(seen, list):
        for index, (one, other) in enumerate(zip_longest(expected, seen, fillvalue=ABSENT)):
            yield from differences(one, other, f"{path}[{index}]")
    elif expected != seen:
        yield f"{path.lstrip('.')}: straight {expected!r}, through the proxy {seen!r}"


def joined(parts: list[Any]) -> list[Any]:
    """Adjacent parts that fit together, as one. Numbered parts must count up by one, and lose their numbers."""
    numbers = [number for number in map(number_of, parts) if number is not None]
    assert all(after == before + 1 for before, after in pairwise(numbers)), numbers
    whole: list[Any] = []
    for part in map(unnumbered, parts):
        try:
            whole[-1:] = [join(whole[-1], part)] if whole else [part]
        except DoesNotFit:
            whole.append(part)
    return whole


def number_of(part: Any) -> int | None:
    """The number of an event, which may be read off the wire (`event`, `data`) or by a client (the data alone)."""
    data = part.get("data", part) if isinstance(part, dict) else None
    return data.get(SEQUENCE) if isinstance(data, dict) else None


def unnumbered(part: Any) -> Any:
    """An event without its number."""
    if not isinstance(part, dict):
        return part
    return {key: unnumbered(value) if key == "data" else value for key, value in part.items() if key != SEQUENCE}


def join(first: Any, second: Any, key: str = "") -> Any:
    """One value from two; raises `DoesNotFit`."""
    if first is None or second is None:
        return second if first is None else first
    if isinstance(first, str) and isinstance(second, str) and key in GROWING_TEXT:
        return first + second
    if first == second:
        return first
    if isinstance(first, dict) and isinstance(second, dict):
        return {name: join(first.get(name), second.get(name), name) for name in first | second}
    if isinstance(first, list) and isinstance(second, list):
        return join_lists(first, second, key)
    raise DoesNotFit


def join_lists(first: list[Any], second: list[Any], key: str) -> list[Any]:
    if key in GROWING_LISTS:
        blocks = all(isinstance(part, dict) and "type" in part for part in first + second)
        return joined(first + second) if blocks else first + second
    if len(first) != len(second):
        raise DoesNotFit
    return [join(one, other) for one, other in zip(first, second, strict=True)]
