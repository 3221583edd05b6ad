"""One engine as `calibrate` talks to it: streamed requests of chosen lengths, and the time of every token.

The load is a measurement, not traffic: it goes straight to the engine, with its own credentials. Requests ask for the
exact number of tokens where the engine takes that (`ignore_eos`, `min_tokens`), and for a count of tokens with every
event (`continuous_usage_stats`), since a server that is a little late puts several into one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import SystemRandom
from time import monotonic
from types import TracebackType
from typing import Any, Self

import httpx
import orjson

from proxy.advisor.timings import Stream
from proxy.policy.model import Secret

FULL = frozenset({429, 503, 529})
_UNKNOWN_FORM = frozenset({400, 404, 405, 422})
_CONNECT_S = 10.0
_SILENCE_S = 120.0
_WORDS = ["the", "and", "for", "are", "but", "not", "you", "all", "any", "can", "had", "her", "was", "one", "our"]
_DRAWN_WORDS = 12
"""Words at random, with which every prompt begins: no prefix cache has seen them."""
_PROBES = (16, 272)
"""Words of two prompts whose difference tells what a word is in tokens."""
_USAGE = {"stream_options": {"include_usage": True}}
_EXACT = {"ignore_eos": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
_CACHE = re.compile(r"^vllm:cache_config_info\{(.*)\}", re.MULTILINE)
_WINDOW = re.compile(r'"max_model_len":\s*(\d+)')
_LABEL = re.compile(r'(\w+)="(\d+)"')
_RUNNING = re.compile(r"^vllm:num_requests_(?:running|waiting)(?:\{.*\})? ([0-9.e+]+)", re.MULTILINE)


class EngineFailed(Exception):
    """The engine cannot be measured; the text says why."""


class EngineFull(EngineFailed):
    """The engine refuses work: others need it more."""


class _NotUnderstood(EngineFailed):
    """The engine does not take a request of this form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The context that fits into the engine and into one request, None where it does not tell; requests of others."""

    kv_tokens: int | None = None
    context_tokens: int | None = None
    requests: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the engine is: its API root, what it calls the model, its key, and body members that it needs."""

    url: str
    model: str
    api_key: Secret | None = None
    parameters: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(slots=True)
class Recording:
    """A stream as it comes in; `changed` is called for each token and at the end."""

    prompt_tokens: int
    changed: Callable[[], None] = lambda: None
    sent_s: float = 0.0
    times_s: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    ended: bool = False

    @property
    def count(self) -> int:
        """How many tokens there are by now."""
        return self.tokens[-1] if self.tokens else 0

    @property
    def stream(self) -> Stream:
        """What there is by now."""
        return Stream(
            sent_s=self.sent_s,
            prompt_tokens=self.prompt_tokens,
            times_s=tuple(self.times_s),
            tokens=tuple(self.tokens),
        )

    def hear(self, event: dict[str, Any], now: float) -> None:
        """Take in an event that came at `now`. Raises `EngineFailed` for one that tells of an error."""
        if event.get("error"):
            raise EngineFailed(f"the engine broke off: {str(event['error'])[:200]}")
        usage = event.get("usage") or {}
        self.prompt_tokens = usage.get("prompt_tokens") or self.prompt_tokens
        if not event.get("choices"):
            return
        count = usage["completion_tokens"] if "completion_tokens" in usage else self.count + _says(event["choices"][0])
        if count > self.count:
            self.times_s.append(now)
            self.tokens.append(count)
            self.changed()


def _says(choice: dict[str, Any]) -> int:
    """One for a choice with text in it, of a dialect or the other; the first event of a chat has none."""
    delta = choice.get("delta") or {}
    return int(bool(choice.get("text") or delta.get("content") or delta.get("reasoning_content")))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dialect:
    """How the engine wants to be asked."""

    path: str
    exact: bool

    def body(self, place: Place, text: str, answer_tokens: int) -> bytes:
        content = {"prompt": text} if self.path == "/completions" else {"messages": [{"role": "user", "content": text}]}
        exact = {**_EXACT, "min_tokens": answer_tokens} if self.exact else _USAGE
        plain = {"model": place.model, "max_tokens": answer_tokens, "temperature": 0, "stream": True}
        return orjson.dumps({**place.parameters, **plain, **content, **exact})


_DIALECTS = (
    _Dialect(path="/completions", exact=True),
    _Dialect(path="/chat/completions", exact=True),
    _Dialect(path="/completions", exact=False),
    _Dialect(path="/chat/completions", exact=False),
)
"""In order of preference: text that no template surrounds, and answers of exactly the length that is asked for."""


class Engine:
    """The engine at a place, while its context is entered. Raises `EngineFailed` when it cannot be reached."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.spent_tokens = 0
        self._dialect = _DIALECTS[0]
        self._tokens_per_word, self._tokens_around = 1.0, 0.0
        self._random = SystemRandom()
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if place.api_key is not None:
            headers["authorization"] = f"Bearer {place.api_key.reveal()}"
        self._http = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(_SILENCE_S, connect=_CONNECT_S),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def greet(self) -> None:
        """Find out which form of a request the engine takes, and how many of its tokens a word is."""
        for dialect in _DIALECTS:
            self._dialect = dialect
            try:
                short, long = [await self._probe(words) for words in _PROBES]
            except _NotUnderstood as error:
                refusal = str(error)
                continue
            self._tokens_per_word = max(0.1, (long - short) / (_PROBES[1] - _PROBES[0]))
            self._tokens_around = short - self._tokens_per_word * _PROBES[0]
            return
        raise EngineFailed(f"the engine takes no streamed completion: {refusal}")

    async def _probe(self, words: int) -> int:
        recording = Recording(prompt_tokens=words)
        await self._stream(self._text(words), 2, recording)
        return recording.prompt_tokens

    async def stream(self, answer_tokens: int, recording: Recording) -> None:
        """Ask for an answer of so many tokens to a prompt of about `recording.prompt_tokens`, until it ends.

        Raises `EngineFull` and `EngineFailed`. Cancelled, it hangs up, and the engine drops the request.
        """
        words = round((recording.prompt_tokens - self._tokens_around) / self._tokens_per_word)
        try:
            await self._stream(self._text(max(1, words)), answer_tokens, recording)
        except _NotUnderstood as error:
            raise EngineFailed(str(error)) from None
        finally:
            recording.ended = True
            recording.changed()

    async def _stream(self, text: str, answer_tokens: int, recording: Recording) -> None:
        body = self._dialect.body(self.place, text, answer_tokens)
        url = f"{self.place.url.rstrip('/')}{self._dialect.path}"
        recording.sent_s = monotonic()
        try:
            async with self._http.stream("POST", url, content=body) as reply:
                if reply.status_code != 200:
                    raise _refusal(reply.status_code, await reply.aread())
                rest = b""
                async for part in reply.aiter_raw():
                    now = monotonic()
                    *events, rest = (rest + part).replace(b"\r\n", b"\n").split(b"\n\n")
                    for event in events:
                        data = event.removeprefix(b"data:").strip()
                        if event.startswith(b"data:") and data != b"[DONE]":
                            recording.hear(orjson.loads(data), now)
        except (httpx.HTTPError, orjson.JSONDecodeError) as error:
            raise EngineFailed(f"`{self.place.url}`: {error or type(error).__name__}") from None
        finally:
            if recording.times_s:
                self.spent_tokens += recording.prompt_tokens + recording.count
        if not recording.times_s:
            raise EngineFailed("the engine answered without a token")

    def _text(self, words: int) -> str:
        drawn = self._random.choices(_WORDS, k=min(words, _DRAWN_WORDS))
        repeated = _WORDS * (words // len(_WORDS) + 1)
        return " ".join(drawn + repeated[: words - len(drawn)])

    async def standing(self) -> Standing:
        """What its `/metrics` and its list of models say, where they are vLLM's."""
        root = self.place.url.rstrip("/")
        metrics = await self._page(f"{root.removesuffix('/v1')}/metrics")
        models = await self._page(f"{root}/models")
        cache = _CACHE.search(metrics)
        sizes = {name: int(value) for name, value in _LABEL.findall(cache[1])} if cache else {}
        windows = [int(number) for number in _WINDOW.findall(models)]
        return Standing(
            kv_tokens=sizes.get("num_gpu_blocks", 0) * sizes.get("block_size", 0) or None,
            context_tokens=min(windows, default=None),
            requests=round(sum(float(number) for number in _RUNNING.findall(metrics))),
        )

    async def _page(self, url: str) -> str:
        try:
            reply = await self._http.get(url)
        except httpx.HTTPError:
            return ""
        return reply.text if reply.status_code == 200 else ""


def _refusal(status: int, body: bytes) -> EngineFailed:
    said = " ".join(body.decode(errors="replace").split())[:200]
    if status in FULL:
        return EngineFull(f"the engine answered {status}, it is full: {said}")
    kind = _NotUnderstood if status in _UNKNOWN_FORM else EngineFailed
    return kind(f"the engine answered {status}: {said}")
