"""The advice as JSON, for scripts and dashboards: every figure of the table, in dollars and unrounded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import msgspec
import numpy as np

from proxy.advisor import advice_words as words
from proxy.advisor.advice import Advice, Alternative
from proxy.advisor.breakeven import HOURS_A_MONTH, BreakEven


def to_json(advices: Sequence[Advice]) -> str:
    """An object with a list of `advices`, one for each pool of replicas."""
    return msgspec.json.format(msgspec.json.encode({"advices": [plain(advice) for advice in advices]})).decode()


def plain(advice: Advice) -> dict[str, Any]:
    """One piece of advice as data. What is infinite (a break-even that is never reached) is null."""
    asked, sizing, mean = advice.asked, advice.sizing, advice.mean
    found = {
        "verdict": advice.verdict.value,
        "headline": words.headline(advice),
        "target": asked.offer.name,
        "have": asked.have,
        "recommended": advice.recommended,
        "best": sizing.best,
        "least": sizing.least,
        "demand": {
            "name": asked.demand.name,
            "hours": sizing.hours.sum(),
            "bin_s": asked.demand.bin_s,
            "requests_per_s": words.requests_per_s(advice),
            "mean": asdict(mean),
            "usd_per_work_hour": mean.usd_per_work_s * 3600,
            "drawn": asked.drawn,
        },
        "replica": _replica(advice),
        "break_even": _break_even(advice.even),
        "replicas": [_count(advice, count) for count in range(sizing.most + 1)],
        "scheduled": {
            "usd_per_hour": advice.schedule.usd_per_hour,
            "boot_usd_per_hour": advice.schedule.boot_usd_per_hour,
            "replicas_by_hour": advice.schedule.replicas.tolist(),
        },
        "clairvoyant_usd_per_hour": sizing.clairvoyant_usd_per_hour,
        "resampled": {"block": advice.certainty.block.value, "blocks": advice.certainty.blocks},
        "cases": [asdict(case) for case in advice.cases],
        "providers": [asdict(case) for case in advice.providers],
        "flips": [asdict(flip) for flip in advice.flips],
        "would_flip": list(words.turning_points(advice)),
        "commitments": [asdict(one) for one in advice.commitments],
        "alternatives": [_alternative(one) for one in advice.alternatives],
        "growth": [asdict(one) for one in advice.later],
        "reasons": [asdict(reason) for reason in advice.reasons],
        "cautions": list(words.cautions(advice)),
        "shared": words.shared_mix(advice),
    }
    return {name: _finite(value) for name, value in found.items()}


def _replica(advice: Advice) -> dict[str, Any]:
    offer = advice.asked.offer
    return {
        "profile": offer.profile.name,
        "usd_per_hour": offer.usd_per_hour,
        "itl_s": offer.itl_s,
        "ttft_s": advice.asked.ttft_s,
        "capacity": offer.capacity,
        "boot_s": offer.boot_s,
        "max_num_batched_tokens": words.chunk_tokens(advice),
    }


def _break_even(even: BreakEven) -> dict[str, Any]:
    return {**asdict(even), "ever": even.ever}


def _count(advice: Advice, count: int) -> dict[str, Any]:
    sizing, certainty = advice.sizing, advice.certainty
    low, middle, high = certainty.saving[count]
    return {
        "replicas": count,
        "usd_per_hour": sizing.usd_per_hour[count],
        "usd_per_month": sizing.usd_per_hour[count] * HOURS_A_MONTH,
        "use": sizing.use[count - 1] if count else None,
        "spill_share": sizing.spill_share[count],
        "saving_usd_per_hour": advice.saving(count),
        "saving_p5": low,
        "saving_p50": middle,
        "saving_p95": high,
        "probability_saves": certainty.positive[count],
        "probability_adds": certainty.adds[count],
        "probability_best": certainty.best[count],
    }


def _alternative(one: Alternative) -> dict[str, Any]:
    sizing = one.sizing
    return {
        "name": sizing.offer.name,
        "usd_per_replica_hour": sizing.offer.usd_per_hour,
        "best": sizing.best,
        "usd_per_hour": sizing.usd_per_hour[sizing.best],
        "use": sizing.use.tolist(),
        "break_even": _break_even(one.even),
        "probability_less": one.less,
    }


def _finite(value: Any) -> Any:
    """Plain numbers, and null for what is none."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
