"""What is noted of an attempt when it begins: enough to charge it by estimate, should nothing more be heard of it."""

from __future__ import annotations

from typing import NamedTuple

from proxy.policy.engine_profile import ASSUMED, EngineProfile
from proxy.policy.model import Lane
from proxy.routing.plan import Attempt

FS = 10**15
"""Femtoseconds in a second: a journal holds integers, and attention takes nanoseconds."""


class Begun(NamedTuple):
    """An attempt's note, apart from its series. `request` is 1 for a request's first attempt, `dedicated` for GPU time;
    prices are nano-USD per million tokens, 0 where there is none. The engine's profile is in femtoseconds, all 0 in a
    note of a release that did not write it.
    """

    input_tokens: int
    request: int
    dedicated: int
    input_price: int
    output_price: int
    sequence_fs: int = 0
    context_token_fs: int = 0
    prefill_token_fs: int = 0
    attention_fs: int = 0

    @property
    def profile(self) -> EngineProfile:
        """What the engine's steps take, as far as it matters to one request's work."""
        if not self.prefill_token_fs:
            return ASSUMED
        return EngineProfile(
            name="noted",
            step_s=0.0,
            sequence_s=self.sequence_fs / FS,
            context_token_s=self.context_token_fs / FS,
            prefill_token_s=self.prefill_token_fs / FS,
            attention_s=self.attention_fs / FS,
        )


def begun(attempt: Attempt, input_tokens: int) -> Begun:
    """The note of an attempt that begins."""
    target = attempt.target
    price, profile = target.price, target.profile
    return Begun(
        input_tokens,
        int(attempt.ordinal == 0),
        int(target.lane is Lane.DEDICATED),
        0 if price is None else price.input_nano_usd_per_mtok,
        0 if price is None else price.output_nano_usd_per_mtok,
        *(() if profile is None else _in_fs(profile)),
    )


def _in_fs(profile: EngineProfile) -> tuple[int, int, int, int]:
    return (
        round(profile.sequence_s * FS),
        round(profile.context_token_s * FS),
        round(profile.prefill_token_s * FS),
        round(profile.attention_s * FS),
    )
