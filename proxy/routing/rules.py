"""The rules that a route may set, required or wanted, as far as they depend on the request or on a measurement.

Theory of operation
-------------------
`gates` asks these rules as conditions and `wants` as wishes; a shadow asks them for the record. What the policy alone
settles is judged by `policy.promises`, once per snapshot; these are asked for every request, so nothing is formatted
for a target that keeps them.

What has to be *measured* is kept until it has been: a target left out for want of measurements would never get one, nor
could one that was left out for good reason ever show that it has recovered.
"""

from __future__ import annotations

from proxy.policy.model import Endpoint, Lane, Rules, Target
from proxy.policy.promises import Miss
from proxy.routing import wording
from proxy.routing.cost import expected_tier, rates_of, tier_of
from proxy.routing.facts import Facts
from proxy.routing.readings import Reading

ASSUMED_OUTPUT_TOKENS = 1024
"""For the estimate of a request that sets no limit to its own output."""

_NOTHING_GENERATED = (Endpoint.EMBEDDINGS, Endpoint.COUNT_TOKENS)

FAILURES_THAT_CONDEMN = 2
"""One failure among few results would put any target below 99.9 %."""


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
        return Miss("max_usd_per_request", "unknown", wording.usd(limit)) if strict else None
    if estimate <= limit:
        return None
    return Miss("max_usd_per_request", f"about {wording.usd(estimate)}", wording.usd(limit))


def missed_by_reading(rules: Rules, reading: Reading) -> tuple[Miss, ...]:
    """Hold to latency quantiles and to uptime, as measured on the replica of `reading`.

    What it does: compares each objective's quantile, and the share of successes.
    Reads: `Reading.latency`, `Reading.uptime`, `Reading.failures`.
    When unknown: kept, or nothing would ever be measured.
    """
    misses: tuple[Miss, ...] = ()
    for objective in rules.objectives:
        if reading.load is not None and not objective.field.startswith("e2e"):
            continue  # what is predicted of this very request says more than what others have seen
        seconds: float | None = getattr(reading.latency, objective.field)
        if seconds is not None and seconds > objective.limit_s:
            spell = wording.tokens_per_s if objective.rule.startswith("perceived_tps") else wording.seconds
            misses += (Miss(objective.rule, spell(seconds), spell(objective.limit_s)),)
    uptime = reading.uptime
    failing = reading.failures >= FAILURES_THAT_CONDEMN
    if failing and rules.uptime is not None and uptime is not None and uptime < rules.uptime:
        misses += (Miss("uptime", wording.percent(uptime), wording.percent(rules.uptime)),)
    return misses


def is_measured(rules: Rules) -> bool:
    """Whether anything in `rules` has to be measured."""
    return bool(rules.objectives) or rules.uptime is not None


def expected_output_tokens(facts: Facts) -> int:
    """Of each choice: as many as the request allows itself, or `ASSUMED_OUTPUT_TOKENS`; none if none are generated."""
    if facts.endpoint in _NOTHING_GENERATED:
        return 0
    return ASSUMED_OUTPUT_TOKENS if facts.max_output_tokens is None else facts.max_output_tokens


def reckoned_tier(target: Target, facts: Facts) -> str:
    """The service tier to reckon with before the reply names one: what is asked for, unless that is a discount."""
    asked = target.parameters.get("service_tier")
    return expected_tier(facts.service_tier if asked is None else tier_of(asked))


def estimated_nano_usd(target: Target, facts: Facts) -> int | None:
    """What the request would cost on the target, rounded up; None where the price is unknown.

    Each of its choices is taken to be as long as it may get (see `expected_output_tokens`), and nothing to come from a
    cache.
    """
    if target.lane is Lane.DEDICATED:
        return 0
    price = target.price
    if price is None:
        return None
    rates = rates_of(price, reckoned_tier(target, facts), facts.input_tokens)
    output_tokens = expected_output_tokens(facts) * facts.choices
    total = facts.input_tokens * rates.input_nano_usd_per_mtok + output_tokens * rates.output_nano_usd_per_mtok
    return -(-total // 1_000_000)
