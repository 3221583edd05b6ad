"""The rules that a route may set for its targets, required or wanted: one judgement of each, whoever asks.

Theory of operation
-------------------
`gates` asks these rules as conditions and `wants` as wishes; a shadow asks them for the record. A rule answers None
when the target keeps it, or a `Miss` that says what was observed against which limit. There are three kinds, by what
they have to see: the policy alone (judged once per snapshot), the request, and a reading. Nothing is formatted for a
target that keeps its rules: the last two kinds run for every request.

`strict` says how to take a fact that the policy does not state: a condition is not met by what nobody promises, while
a wish about price is not missed by it. What has to be *measured* is different: until it has been, every target keeps
the rule, or a target left out could never show that it has recovered.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from proxy.policy.model import Lane, Price, Rules, Target, matches_any
from proxy.routing.facts import Facts
from proxy.routing.readings import Reading

UNKNOWN = frozenset({"", "unknown"})
"""Values of a region, a retention or a quantization that promise nothing, and so satisfy nobody, not even `*`."""

ASSUMED_OUTPUT_TOKENS = 1024
"""For the estimate of a request that sets no limit to its own output."""

FAILURES_THAT_CONDEMN = 2
"""One failure among few results would put any target below 99.9 %."""


class Miss(msgspec.Struct, frozen=True, gc=False):
    """One rule that a target does not keep."""

    rule: str
    observed: str
    limit: str


Static = Callable[[Target, Rules, bool], Miss | None]


def lane(target: Target, rules: Rules, strict: bool) -> Miss | None:
    """Hold to one lane.

    What it does: passes targets of the given lane.
    Reads: `Target.lane`.
    When unknown: a target always has a lane.
    """
    if rules.lane is None or target.lane is rules.lane:
        return None
    return Miss("lane", target.lane.value, rules.lane.value)


def tags(target: Target, rules: Rules, strict: bool) -> Miss | None:
    """Hold to targets that carry all of some tags: certifications, say.

    What it does: passes targets whose tags include every given one.
    Reads: `Target.tags`.
    When unknown: an untagged target satisfies nobody.
    """
    if rules.tags <= target.tags:
        return None
    return Miss("tags", _listed(target.tags), _listed(rules.tags))


def region(target: Target, rules: Rules, strict: bool) -> Miss | None:
    """Keep the bytes of a request inside some regions.

    What it does: passes targets whose region matches one of the globs.
    Reads: `Target.region`.
    When unknown: a target without a known region satisfies nobody, `*` included.
    """
    return _in_globs("region", target.region, rules.regions)


def retention(target: Target, rules: Rules, strict: bool) -> Miss | None:
    """Keep a request from targets that store it for too long.

    What it does: passes targets whose retention matches one of the globs.
    Reads: `Target.retention`.
    When unknown: a target without a known retention satisfies nobody, `*` included.
    """
    return _in_globs("retention", target.retention, rules.retention)


def training(target: Target, rules: Rules, strict: bool) -> Miss | None:
    """Keep prompts from being trained on.

    What it does: passes targets that promise not to.
    Reads: `Target.trains`.
    When unknown: no promise, not passed.
    """
    if not rules.no_training or target.trains is False:
        return None
    return Miss("training", "unknown" if target.trains is None else "true", "false")


def quantization(target: Target, rules: Rules, strict: bool) -> Miss | None:
    """Hold to weights of some precisions, since a cheaper one answers differently under the same name.

    What it does: passes targets whose quantization is among those given.
    Reads: `Target.quantization`.
    When unknown: satisfies nobody.
    """
    if not rules.quantization or (target.quantization in rules.quantization and target.quantization not in UNKNOWN):
        return None
    return Miss("quantization", target.quantization, _listed(rules.quantization))


def usd_per_mtok(target: Target, rules: Rules, strict: bool) -> Miss | None:
    """Hold to a price per million tokens.

    What it does: compares the blended price; a dedicated target costs nothing at the margin and meets any price.
    Reads: `Target.price`.
    When unknown: does not pass as a requirement; as a wish it is not missed.
    """
    limit = rules.nano_usd_per_mtok
    if limit is None or target.lane is Lane.DEDICATED:
        return None
    if target.price is None:
        return Miss("usd_per_mtok", "unknown", _usd_per_mtok(limit)) if strict else None
    blended = blended_nano_usd_per_mtok(target.price)
    return None if blended <= limit else Miss("usd_per_mtok", _usd_per_mtok(blended), _usd_per_mtok(limit))


STATIC: tuple[Static, ...] = (lane, tags, region, retention, training, quantization, usd_per_mtok)
"""What the policy alone settles, in the order in which it is asked."""


def missed_by_policy(target: Target, rules: Rules, *, strict: bool) -> tuple[Miss, ...]:
    """The static rules that the target misses whatever happens."""
    return tuple(miss for rule in STATIC if (miss := rule(target, rules, strict)) is not None)


def missed_by_request(target: Target, rules: Rules, facts: Facts, *, strict: bool) -> Miss | None:
    """Hold a request to a price.

    What it does: compares the estimate of what this request would cost on this target.
    Reads: `Target.price`, the request's size and the limit to its output.
    When unknown: an unknown price does not pass as a requirement; as a wish it is not missed.
    """
    limit = rules.max_nano_usd_per_request
    if limit is None:
        return None
    estimate = estimated_nano_usd(target, facts)
    if estimate is None:
        return Miss("max_usd_per_request", "unknown", _usd(limit)) if strict else None
    return None if estimate <= limit else Miss("max_usd_per_request", f"about {_usd(estimate)}", _usd(limit))


def missed_by_reading(rules: Rules, reading: Reading) -> tuple[Miss, ...]:
    """Hold to latency quantiles and to uptime, as measured on the replica of `reading`.

    What it does: compares each objective's quantile, and the share of successes.
    Reads: `Reading.latency`, `Reading.uptime`, `Reading.failures`.
    When unknown: kept, or nothing would ever be measured.
    """
    misses: tuple[Miss, ...] = ()
    for objective in rules.objectives:
        seconds: float | None = getattr(reading.latency, objective.field)
        if seconds is not None and seconds > objective.limit_s:
            spell = _tokens_per_s if objective.rule.startswith("perceived_tps") else _seconds
            misses += (Miss(objective.rule, spell(seconds), spell(objective.limit_s)),)
    uptime = reading.uptime
    if rules.uptime is not None and uptime is not None and uptime < rules.uptime:
        if reading.failures < FAILURES_THAT_CONDEMN:
            return misses
        misses += (Miss("uptime", _percent(uptime), _percent(rules.uptime)),)
    return misses


def is_measured(rules: Rules) -> bool:
    """Whether anything in `rules` has to be measured."""
    return bool(rules.objectives) or rules.uptime is not None


def blended_nano_usd_per_mtok(price: Price) -> int:
    """One figure for a two-part price: three input tokens to one output token, the blend that price lists quote."""
    return (3 * price.input_nano_usd_per_mtok + price.output_nano_usd_per_mtok) // 4


def estimated_nano_usd(target: Target, facts: Facts) -> int | None:
    """What the request would cost on the target, rounded up; None where the price is unknown.

    Its output is taken to be as long as it may get, or `ASSUMED_OUTPUT_TOKENS` where it sets no limit.
    """
    if target.lane is Lane.DEDICATED:
        return 0
    price = target.price
    if price is None:
        return None
    output_tokens = ASSUMED_OUTPUT_TOKENS if facts.max_output_tokens is None else facts.max_output_tokens
    total = facts.input_tokens * price.input_nano_usd_per_mtok + output_tokens * price.output_nano_usd_per_mtok
    return -(-total // 1_000_000)


def _in_globs(rule: str, observed: str, globs: tuple[str, ...]) -> Miss | None:
    if not globs or (observed not in UNKNOWN and matches_any(observed, globs)):
        return None
    return Miss(rule, observed or "unknown", ", ".join(globs))


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def _tokens_per_s(gap_s: float) -> str:
    return f"{1 / gap_s:.1f} tokens/s"


def _percent(share: float) -> str:
    return f"{share:.2%}"


def _usd(nano_usd: int) -> str:
    return f"${nano_usd / 1e9:.6f}".rstrip("0").rstrip(".")


def _usd_per_mtok(nano_usd: int) -> str:
    return f"${nano_usd / 1e9:.2f}/M tokens"
