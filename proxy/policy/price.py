"""What a shared target's tokens cost: a rate for each kind of token, in each service tier, for prompts of each length.

Theory of operation
-------------------
A price list has one figure for input and one for output, and sometimes figures of their own for tokens that were read
from the provider's cache or written to it, for audio and for reasoning. Some lists have all of that again for a service
tier (`batch`, `flex`, `priority`), and again for requests whose input is longer than so many tokens, where all tokens
of the request cost more. All figures are nano-USD per million tokens, so that $0.0375/M is still an integer. None is
"not listed apart"; what such tokens cost then is the business of `routing.cost`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a million tokens of each kind cost. Cached, written and audio input are parts of the input, and so on.

    `cache_write` is for what is kept some minutes, as most providers do, `cache_write_1h` for what is kept an hour.
    """

    input_nano_usd_per_mtok: int
    output_nano_usd_per_mtok: int
    cached_input_nano_usd_per_mtok: int | None = None
    cache_write_nano_usd_per_mtok: int | None = None
    cache_write_1h_nano_usd_per_mtok: int | None = None
    audio_input_nano_usd_per_mtok: int | None = None
    audio_output_nano_usd_per_mtok: int | None = None
    reasoning_nano_usd_per_mtok: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LongRates(Rates):
    """The rates of a request whose input is longer than `above_tokens`."""

    above_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff(Rates):
    """The rates of one service tier; `above` are those of long prompts, the shortest of them first."""

    above: tuple[LongRates, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Price(Tariff):
    """A target's whole price: the standard tier's tariff, and those of the other tiers by their names.

    `source` names where the figures come from: `policy`, or `litellm <version>`.
    """

    source: str = "policy"
    tiers: Mapping[str, Tariff] = field(default_factory=dict, hash=False)
