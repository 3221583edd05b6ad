"""What a target promises by what its policy says of it, and whether that keeps a rule.

Theory of operation
-------------------
These rules are settled by the policy alone: the compiler asks them to find routes that can only refuse, the router to
work out lawful sets once per snapshot. A rule answers None when the target keeps it, or a `Miss` that says what was
observed against which limit.

`strict` says how to take a fact that the policy does not state: a requirement is not met by what nobody promises, while
a wish about price is not missed by it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from proxy.policy.model import Lane, Price, Rules, Target, matches_any

UNKNOWN = frozenset({"", "unknown"})
"""Values of a region, a retention or a quantization that promise nothing, and so satisfy nobody, not even `*`."""


@dataclass(frozen=True, slots=True)
class Miss:
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


def blended_nano_usd_per_mtok(price: Price) -> int:
    """One figure for a two-part price: three input tokens to one output token, the blend that price lists quote."""
    return (3 * price.input_nano_usd_per_mtok + price.output_nano_usd_per_mtok) // 4


def _in_globs(rule: str, observed: str, globs: tuple[str, ...]) -> Miss | None:
    if not globs or (observed not in UNKNOWN and matches_any(observed, globs)):
        return None
    return Miss(rule, observed or "unknown", ", ".join(globs))


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _usd_per_mtok(nano_usd: int) -> str:
    return f"${nano_usd / 1e9:.2f}/M tokens"
