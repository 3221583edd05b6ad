"""A simulated shared provider: priced by the token, with its own latency and rate limits. Every reply says so.

Theory of operation
-------------------
The first token comes after a log-normal time, the others at an even pace; both depend on nothing but the seed, since a
provider's capacity is not the caller's concern. What a caller meets instead are its rate limits, of requests and of
tokens, charged with prompt and answer when a request arrives, shown in `x-ratelimit-*` headers (OpenAI's names) and,
when used up, as 429 with `Retry-After`. What was used flows back evenly, or comes back at the end of a fixed window.
Money is in the ledger.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from math import ceil, exp, log
from random import Random
from time import monotonic

from proxy.simulator.asks import Problem
from proxy.simulator.front import NATURAL_ANSWER_TOKENS, Answer, Front
from proxy.simulator.httpd import Headers
from proxy.simulator.ledger import Ledger
from proxy.simulator.token_bucket import MINUTE_S, FixedWindow, Limit, TokenBucket

_P99 = 2.3263478740408408  # standard normal quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a provider charges and how it performs; the defaults are Llama-3.3-70B at a big cloud, mid-2026.

    Prices are nano-USD per million tokens. `rpm` and `tpm` are requests and tokens a minute, None is no limit; they are
    counted in periods of `period_s`, each with its part of the minute's worth. `headers` says whether replies tell.
    """

    input_nano_usd_per_mtok: int = 720_000_000
    output_nano_usd_per_mtok: int = 720_000_000
    ttft_median_s: float = 0.45
    ttft_p99_s: float = 1.62
    tokens_per_s: float = 70.0
    rpm: int | None = None
    tpm: int | None = None
    fixed_window: bool = False
    period_s: float = MINUTE_S
    headers: bool = True

    def limit(self, per_minute: int | None, now: float) -> Limit | None:
        """A limit of this provider's kind, nothing of it used."""
        if per_minute is None:
            return None
        kind = FixedWindow if self.fixed_window else TokenBucket
        return kind(max(1, round(per_minute * self.period_s / MINUTE_S)), now, self.period_s)


class ProviderSimulator(Front):
    """One simulated provider account."""

    def __init__(
        self,
        terms: Terms | None = None,
        *,
        model: str = "simulated-llama",
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str | None = None,
        natural_tokens: int = NATURAL_ANSWER_TOKENS,
        seed: int = 0,
    ) -> None:
        self.terms = terms or Terms()
        super().__init__(
            "provider",
            model=model,
            host=host,
            port=port,
            api_key=api_key,
            natural_tokens=natural_tokens,
            ledger=Ledger(
                input_price=self.terms.input_nano_usd_per_mtok, output_price=self.terms.output_nano_usd_per_mtok
            ),
        )
        self._random = Random(seed)  # noqa: S311 (latency, not secrets)
        now = monotonic()
        self._requests = self.terms.limit(self.terms.rpm, now)
        self._tokens = self.terms.limit(self.terms.tpm, now)

    def answer(self, answer: Answer, serial: int) -> None:
        """Answer at the provider's pace, or refuse with 429."""
        now = monotonic()
        refusal = self._rate_limited(answer, now)
        if refusal is not None:
            problem, retry_after_s = refusal
            answer.refuse(problem, (("retry-after", str(ceil(retry_after_s))), *self._limits(now)))
            return
        answer.accept((("x-request-id", answer.entry.reply_id), *self._limits(now)))
        _Pace(answer, 1 / self.terms.tokens_per_s).begin(self._ttft_s())

    def _ttft_s(self) -> float:
        spread = log(self.terms.ttft_p99_s / self.terms.ttft_median_s) / _P99
        return self.terms.ttft_median_s * exp(spread * self._random.gauss(0.0, 1.0))

    def _rate_limited(self, answer: Answer, now: float) -> tuple[Problem, float] | None:
        tokens = answer.ask.input_tokens + answer.answer_tokens
        charges = ((self._requests, 1, "requests"), (self._tokens, tokens, "tokens"))
        for limit, units, kind in charges:
            wait_s = 0.0 if limit is None else limit.wait_s(units, now)
            if wait_s > 0:
                message = f"Rate limit reached for `{self.model}` on {kind} per min. Please try again in {wait_s:.3f}s."
                return Problem(status=429, message=message, type=kind, code="rate_limit_exceeded"), wait_s
        for limit, units, _ in charges:
            if limit is not None:
                limit.take(units, now)
        return None

    def _limits(self, now: float) -> Headers:
        headers: Headers = ()
        for limit, kind in ((self._requests, "requests"), (self._tokens, "tokens")):
            if limit is not None and self.terms.headers:
                headers += (
                    (f"x-ratelimit-limit-{kind}", str(limit.units)),
                    (f"x-ratelimit-remaining-{kind}", str(max(0, int(limit.level(now))))),
                    (f"x-ratelimit-reset-{kind}", f"{limit.full_in_s(now):.3f}s"),
                )
        return headers


class _Pace:
    """Timer callbacks that let one answer speak: no task per request."""

    __slots__ = ("_answer", "_first_s", "_gap_s", "_loop", "_timer")

    def __init__(self, answer: Answer, gap_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._answer = answer
        self._gap_s = gap_s
        self._first_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        answer.on_leave = self._stop

    def begin(self, ttft_s: float) -> None:
        self._first_s = self._loop.time() + ttft_s
        self._timer = self._loop.call_at(self._first_s, self._tick)

    def _tick(self) -> None:
        answer = self._answer
        due = 1 + int((self._loop.time() - self._first_s) / self._gap_s)
        tokens = min(due, answer.answer_tokens)
        answer.speak(tokens)
        if tokens == answer.answer_tokens:
            answer.finish()
        else:
            self._timer = self._loop.call_at(self._first_s + tokens * self._gap_s, self._tick)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
