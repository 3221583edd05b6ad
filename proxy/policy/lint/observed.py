"""Reads what targets were seen to do: the histograms of a proxy's `/metrics`, or a JSON object of quantiles.

Theory of operation
-------------------
A histogram says between which two bounds a quantile lies. The lower one is taken: a target that is called too slow was
at least so slow. Only quantiles with enough samples beyond them count.

As JSON: `{"targets": {"openai": {"ttft_p99": 0.8, "itl_p50": 0.02}}}`, in seconds.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
HISTOGRAMS = {"spillway_time_to_first_token_seconds": "ttft", "spillway_inter_token_seconds": "itl"}
LEAST_SAMPLES = 200
"""So many that two lie beyond the 99th percentile."""

_BUCKET = re.compile(r"(\w+)_bucket\{(.*)\} ([0-9.eE+]+)(?: .*)?")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_OURS = re.compile(r"^(?:# TYPE )?spillway_", re.MULTILINE)
_RULE = re.compile(r"(?:ttft|itl|e2e)_p(?:50|90|95|99)")


class NotObservations(ValueError):
    """The text is neither; says what was expected."""


def parse_observations(text: str) -> dict[str, dict[str, float]]:
    """By target and rule (`ttft_p99`), seconds. Raises NotObservations."""
    return _from_json(text) if text.lstrip().startswith("{") else _from_metrics(text)


def _from_json(text: str) -> dict[str, dict[str, float]]:
    try:
        targets = json.loads(text)["targets"]
        found = {name: {rule: float(seconds) for rule, seconds in one.items()} for name, one in targets.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise NotObservations('expected `{"targets": {"name": {"ttft_p99": 0.8}}}`, in seconds') from None
    for rule in {rule for one in found.values() for rule in one}:
        if not _RULE.fullmatch(rule):
            raise NotObservations(f"`{rule}` is no latency (hint: write `ttft_p99`, `itl_p50`, `e2e_p95`, ...)")
    return found


def _from_metrics(text: str) -> dict[str, dict[str, float]]:
    counts: defaultdict[tuple[str, str], defaultdict[float, float]] = defaultdict(lambda: defaultdict(float))
    for line in text.splitlines():
        match = _BUCKET.fullmatch(line)
        if match is not None and match[1] in HISTOGRAMS:
            labels = dict(_LABEL.findall(match[2]))
            if "target" in labels and "le" in labels:
                counts[labels["target"], HISTOGRAMS[match[1]]][float(labels["le"])] += float(match[3])
    if not _OURS.search(text):
        raise NotObservations("no metrics of a Spillway in it (hint: name the admin port's `/metrics`)")
    found: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for (target, metric), buckets in counts.items():
        for name, share in QUANTILES.items():
            if buckets.get(math.inf, 0) >= LEAST_SAMPLES:
                found[target][f"{metric}_{name}"] = at_least(buckets, share)
    return dict(found)


def at_least(buckets: Mapping[float, float], share: float) -> float:
    """The largest bound that the quantile at `share` is known to exceed; `buckets` are cumulative, by upper bound."""
    rank, below = share * buckets[math.inf], 0.0
    for bound in sorted(buckets):
        if buckets[bound] >= rank:
            return below
        below = bound
    return below
