"""What a replay's columns say together."""

from __future__ import annotations

import dataclasses

import numpy as np
from tests.advisor.replays import PRICE_NANO_USD, replayed


def test_both_objectives_have_to_be_met_and_refusals_meet_none() -> None:
    run = replayed("dddr", [2.0, 2.1, 0.1, 0.1])
    run = dataclasses.replace(run, pace_s=np.array([0.05, 0.01, 0.06, np.nan], np.float32))
    assert run.met.tolist() == [True, False, False, False]


def test_the_bill_is_gpus_and_tokens() -> None:
    assert replayed("dsp", [0.1] * 3, gpu_nano_usd=7).nano_usd_in_all == 7 + 2 * PRICE_NANO_USD
