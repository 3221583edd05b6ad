"""What tokens cost at a price: one sum, used before a request is sent, while it streams, and when it is charged.

Theory of operation
-------------------
Prices are nano-USD per million tokens, so a cost is tokens times price, summed over the kinds of token and divided by a
million once, at the end, half to even.

Which rates hold is told by the service tier that the provider served and by the length of the input: beyond a listed
length all tokens of the request cost what is listed for that length. A tier that the price does not list costs what the
standard one does, and so does a long request in a tier that lists no lengths.

A part (cached, written to the cache, audio, reasoning) is priced instead of, not beside, the plain token that it is.
Parts that together exceed their whole are cut to it, the dearest kind standing first, so that no report can turn a
charge into a credit. A part without a rate of its own costs as plain input or output, an hour's cache write as a
shorter one. In a tier or at a length that does not list the kind apart, it costs the dearer of that tier's plain rate
and of what the standard tier lists for the kind: whatever is not known is taken to be dear.
"""

from __future__ import annotations

from proxy.policy.price import Price, Rates
from proxy.routing.outcome import Usage

TOKENS_PER_MTOK = 1_000_000

STANDARD_TIERS = frozenset({"auto", "default", "on_demand", "standard", "standard_only"})
"""What OpenAI, Anthropic and Groq call service at the list price, or leave to the account."""
DISCOUNTED_TIERS = frozenset({"batch", "flex"})
"""Those that cost less than the standard: not reckoned with before the provider has said that it served them."""

MAX_TIER_CHARACTERS = 32


def tier_of(name: object) -> str:
    """A provider's word for a service tier: empty for the standard one, and for what cannot be the name of any."""
    if not isinstance(name, str) or len(name) > MAX_TIER_CHARACTERS or not (name.isascii() and name.isidentifier()):
        return ""
    name = name.lower()
    return "" if name in STANDARD_TIERS else name


def expected_tier(asked: str) -> str:
    """The tier to reckon with while the provider has not said which it serves: never one that makes tokens cheaper."""
    return "" if asked in DISCOUNTED_TIERS else asked


def rates_of(price: Price, tier: str, input_tokens: int) -> Rates:
    """What holds for a request of so many input tokens that is served in `tier`."""
    tariff = price.tiers.get(tier, price) if tier else price
    rates: Rates = tariff
    for longer in tariff.above or price.above:
        if input_tokens > longer.above_tokens:
            rates = longer
    return rates


def cost_nano_usd(price: Price, usage: Usage) -> int:
    """The price of one request's `usage`, in nano-USD."""
    rates: Rates = price
    if price.above or usage.service_tier:
        rates = rates_of(price, usage.service_tier, usage.input_tokens)
    return _cost_nano_usd(rates, price, usage)


def most_nano_usd(price: Price, tier: str, input_tokens: int, output_tokens: int, *, audio: bool) -> int:
    """The most that so many tokens can cost, rounded up: whatever part of them turns out to be written or thought.

    `audio` says that the prompt has any. A model with a price for spoken output may answer with nothing else.
    """
    into, out = dearest(price, tier, input_tokens, audio=audio)
    return -(-(input_tokens * into + output_tokens * out) // TOKENS_PER_MTOK)


def dearest(price: Price, tier: str, input_tokens: int, *, audio: bool) -> tuple[int, int]:
    """The most that a million tokens of input, and of output, can cost in a request with so much input."""
    rates = rates_of(price, tier, input_tokens)
    into = [rates.input_nano_usd_per_mtok]
    for given in (rates, price):
        into.append(given.cached_input_nano_usd_per_mtok or 0)  # dearer than input only by mistake, but then charged
        into += [given.cache_write_nano_usd_per_mtok or 0, given.cache_write_1h_nano_usd_per_mtok or 0]
        into.append((given.audio_input_nano_usd_per_mtok or 0) if audio else 0)
    out = [rates.output_nano_usd_per_mtok]
    for given in (rates, price):
        out += [given.audio_output_nano_usd_per_mtok or 0, given.reasoning_nano_usd_per_mtok or 0]
    return max(into), max(out)


def plain_nano_usd(rates: Rates, input_tokens: int, output_tokens: int) -> int:
    """The price of so many tokens of which none is of a kind of its own."""
    return _of_a_million(input_tokens * rates.input_nano_usd_per_mtok + output_tokens * rates.output_nano_usd_per_mtok)


def cost_of_many_nano_usd(price: Price, usage: Usage) -> int:
    """The price of the sum of many requests' usages, as if all were of the standard tier and short."""
    return _cost_nano_usd(price, price, usage)


def _cost_nano_usd(rates: Rates, listed: Rates, usage: Usage) -> int:
    total = usage.input_tokens * rates.input_nano_usd_per_mtok + usage.output_tokens * rates.output_nano_usd_per_mtok
    if usage.cached_input_tokens or usage.cache_write_tokens or usage.audio_input_tokens:
        total += _of_input_parts(rates, listed, usage)
    if usage.reasoning_tokens or usage.audio_output_tokens:
        total += _of_output_parts(rates, listed, usage)
    return _of_a_million(total)


def _of_a_million(total: int) -> int:
    quotient, remainder = divmod(total, TOKENS_PER_MTOK)
    twice = 2 * remainder
    return quotient + (twice > TOKENS_PER_MTOK or (twice == TOKENS_PER_MTOK and quotient & 1))


def _of_input_parts(rates: Rates, listed: Rates, usage: Usage) -> int:
    """What the parts of the input cost beyond (or, below zero, short of) plain input."""
    plain = rates.input_nano_usd_per_mtok
    write = _rate(rates.cache_write_nano_usd_per_mtok, listed.cache_write_nano_usd_per_mtok, plain)
    write_1h = _rate(rates.cache_write_1h_nano_usd_per_mtok, listed.cache_write_1h_nano_usd_per_mtok, write)
    audio = _rate(rates.audio_input_nano_usd_per_mtok, listed.audio_input_nano_usd_per_mtok, plain)
    cached = _rate(rates.cached_input_nano_usd_per_mtok, listed.cached_input_nano_usd_per_mtok, plain)
    kept_1h = min(usage.cache_write_1h_tokens, usage.cache_write_tokens)
    parts = (
        (usage.audio_input_tokens, audio),
        (kept_1h, write_1h),
        (usage.cache_write_tokens - kept_1h, write),
        (usage.cached_input_tokens, cached),
    )
    return _beyond(plain, usage.input_tokens, parts)


def _of_output_parts(rates: Rates, listed: Rates, usage: Usage) -> int:
    """The same for the output."""
    plain = rates.output_nano_usd_per_mtok
    audio = _rate(rates.audio_output_nano_usd_per_mtok, listed.audio_output_nano_usd_per_mtok, plain)
    reasoning = _rate(rates.reasoning_nano_usd_per_mtok, listed.reasoning_nano_usd_per_mtok, plain)
    parts = ((usage.audio_output_tokens, audio), (usage.reasoning_tokens, reasoning))
    return _beyond(plain, usage.output_tokens, parts)


def _rate(own: int | None, listed: int | None, plain: int) -> int:
    if own is not None:
        return own
    return plain if listed is None else max(plain, listed)


def _beyond(plain: int, whole: int, parts: tuple[tuple[int, int], ...]) -> int:
    total = 0
    for tokens, rate in parts:
        taken = min(tokens, whole)
        whole -= taken
        total += taken * (rate - plain)
    return total
