"""Reads what a provider tells of its own limits in the headers of a reply.

Theory of operation
-------------------
Two families are in use. `x-ratelimit-{limit,remaining,reset}-{requests,tokens}` began with OpenAI and is spoken by most
that copy its API (Groq, Fireworks, Azure, Cerebras); where the unit is left out, requests are meant (OpenRouter).
`anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}` is Anthropic's. A reset is a
Go duration (`6m0s`, `2m59.56s`, `12ms`), seconds, a Unix time in seconds or milliseconds, or an RFC 3339 time. One told
in whole seconds may have been rounded down, so a second is added: to wait a little long costs little, and to burst a
little early is answered with 429.

Azure leaves out the limit, or sends -1 or 0 where it has nothing to say. What is malformed or absurd tells nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import product

import msgspec

REQUESTS, TOKENS, INPUT_TOKENS, OUTPUT_TOKENS = range(4)
UNITS = ("requests", "tokens", "input tokens", "output tokens")
"""What quotas are counted in, by the index that the rest of this package uses."""

DEFAULT_PERIOD_S = 60.0
"""When a quota is taken to be whole again if its provider does not say: nearly all are per minute."""
MAX_PERIOD_S = 86_400.0 * 31
MAX_LIMIT = 10**15

_LIMIT, _REMAINING, _RESET = range(3)
_FIELDS = {"limit": _LIMIT, "remaining": _REMAINING, "reset": _RESET}
_OPENAI = {"": REQUESTS, "-requests": REQUESTS, "-tokens": TOKENS}
_ANTHROPIC = {"requests": REQUESTS, "tokens": TOKENS, "input-tokens": INPUT_TOKENS, "output-tokens": OUTPUT_TOKENS}
_KNOWN: Mapping[bytes, tuple[int, int]] = {
    f"x-ratelimit-{name}{suffix}".encode(): (unit, field)
    for (name, field), (suffix, unit) in product(_FIELDS.items(), _OPENAI.items())
} | {
    f"anthropic-ratelimit-{prefix}-{name}".encode(): (unit, field)
    for (name, field), (prefix, unit) in product(_FIELDS.items(), _ANTHROPIC.items())
}

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:d|h|ms|us|µs|ns|m|s))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(d|h|ms|us|µs|ns|m|s)")
_SECONDS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_COARSE = {"d", "h", "m", "s"}
_ROUNDING_S = 1.0
_SHORT = len(str(MAX_LIMIT))
_EPOCH_S, _EPOCH_MS = 1e9, 1e12
"""A plain number from here on is a Unix time in seconds, from there on in milliseconds."""


class Told(msgspec.Struct, frozen=True, gc=False):
    """One quota: `remaining` of `limit` are left, and it is whole again in `reset_in_s`. `unit` is an index.

    `limit` is None where only the remainder is told.
    """

    unit: int
    limit: int | None
    remaining: int
    reset_in_s: float


NOTHING: tuple[Told, ...] = ()


def read(headers: Iterable[tuple[bytes, bytes]], wall_time: float) -> tuple[Told, ...]:
    """The quotas told in the headers of a reply, names in lower case; `wall_time` is Unix time, for absolute resets."""
    found = [(_KNOWN[name], value) for name, value in headers if name in _KNOWN]
    return _quotas(found, wall_time) if found else NOTHING


def _quotas(found: list[tuple[tuple[int, int], bytes]], wall_time: float) -> tuple[Told, ...]:
    by_unit: dict[int, list[bytes]] = {}
    for (unit, field), value in found:
        by_unit.setdefault(unit, [b"", b"", b""])[field] = value
    told = [_quota(unit, values, wall_time) for unit, values in by_unit.items()]
    return tuple([one for one in told if one is not None])


def _quota(unit: int, values: list[bytes], wall_time: float) -> Told | None:
    limit_text, remaining_text, reset_text = values
    remaining, limit = _count(remaining_text), _count(limit_text)
    if remaining is None or limit == 0 or (limit is None and limit_text):
        return None
    return Told(unit, limit, remaining, _reset_in_s(reset_text, wall_time))


def _count(text: bytes) -> int | None:
    if len(text) < _SHORT and text.isdigit():
        return int(text)
    count = _number(text)
    return int(count) if count is not None and count <= MAX_LIMIT else None


def _number(text: bytes) -> float | None:
    """A plain decimal number; `float` alone would take `nan`, `1_0` and the digits of any script."""
    return float(text) if text.isdigit() or text.replace(b".", b"", 1).isdigit() else None


def _reset_in_s(text: bytes, wall_time: float) -> float:
    seconds = _seconds(text, wall_time)
    return seconds if seconds is not None and seconds <= MAX_PERIOD_S else DEFAULT_PERIOD_S


def _seconds(text: bytes, wall_time: float) -> float | None:
    number = _number(text)
    if number is None:
        if text.endswith(b"ms") and (millis := _number(text[:-2])) is not None:
            return millis / 1000
        words = text.decode("utf-8", "replace")
        return _duration_s(words) if _DURATION.fullmatch(words) else _seconds_to(words, wall_time)
    if number >= _EPOCH_MS:
        return max(0.0, number / 1000 - wall_time)
    seconds = max(0.0, number - wall_time) if number >= _EPOCH_S else number
    return seconds if b"." in text else seconds + _ROUNDING_S


def _duration_s(text: str) -> float:
    parts = _PART.findall(text)
    rounded = "." not in text and parts[-1][1] in _COARSE
    return sum([float(number) * _SECONDS[unit] for number, unit in parts]) + (_ROUNDING_S if rounded else 0.0)


def _seconds_to(text: str, wall_time: float) -> float | None:
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        return None
    seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - wall_time
    return max(0.0, seconds if date.microsecond else seconds + _ROUNDING_S)
