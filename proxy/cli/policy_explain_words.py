"""The parts of an explanation in plain words; the name of the rule stands with each, for whoever looks it up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from proxy.policy.model import Lane, Prefer
from proxy.routing import wording
from proxy.routing.explain import clauses
from proxy.routing.explain.explained import (
    Asked,
    Explanation,
    Observed,
    Place,
    Purse,
    Scope,
    Standing,
    Stated,
    Told,
    Uptime,
    Work,
)
from proxy.routing.plan import Cause, Exclusion
from proxy.routing.readings import Breaker, Quantiles
from proxy.telemetry.log import Line

PREFERENCES = {
    Prefer.COST: "cost: GPUs that are paid for first, then the cheapest",
    Prefer.LATENCY: "latency: the shortest time to the first token first",
    Prefer.DEDICATED: "dedicated targets first",
    Prefer.SHARED: "shared targets first",
}

_UNITS = {"rpm": "requests a minute", "tpm": "tokens a minute", "concurrency": "requests in flight"}
_MODES = {"require": "over it: refused", "want": "over it: recorded", "shadow": "over it: recorded, in shadow"}
SECONDS_TOLD = 300
_MEASURES = (("ttft", "TTFT"), ("itl", "ITL"), ("e2e", "E2E"))


def asked(one: Asked) -> str:
    """What was asked, in a line."""
    caller = f"key {one.key}" if one.key else f"tenant {one.tenant}"
    parts = [
        f"model {one.model}",
        "anonymous caller" if one.tenant == "anonymous" else caller,
        f"tags {', '.join(one.tags)}" if one.tags else "no tags",
        f"endpoint {one.endpoint.value}",
        one.traffic.value,
        "" if one.priority == "normal" else f"{one.priority} priority",
        "streamed" if one.stream else "not streamed",
        " and ".join(modality.value for modality in one.modalities) + " in the prompt" if one.modalities else "",
        "tools" if one.tools else "",
        f"about {one.input_tokens:,} tokens in",
        "no limit to the output" if one.max_output_tokens is None else f"at most {one.max_output_tokens:,} out",
        f"x-spillway-lane: {one.lane}" if one.lane else "",
        f"x-spillway-target: {one.target}" if one.target else "",
        f"at {datetime.fromtimestamp(one.at_s, UTC):%a %Y-%m-%d %H:%M} UTC",
    ]
    return ", ".join(part for part in parts if part)


def rule(one: Stated) -> str:
    """A rule of a route."""
    name = one.rule.partition(".")[2]
    match name:
        case "training":
            return "no training on prompts"
        case "rpm" | "tpm" | "concurrency":
            return f"at most {one.limit} {_UNITS[name]}"
        case "uptime":
            return f"uptime at least {one.limit}"
        case _ if name.startswith("perceived_tps"):
            return f"{name} at least {one.limit}"
        case _ if name.startswith(("ttft", "itl", "e2e")) or "usd" in name:
            return f"{name} at most {one.limit}"
        case _:
            return f"{name} {' or '.join(one.limit.split(', ')) if name != 'tags' else one.limit}"


def placed(place: Place, one: Standing) -> str:
    """A place of a target in the plan."""
    replica = f", on replica {place.replica}" if len(one.observed) > 1 else ""
    if place is not one.places[0]:
        return f"again in place {place.ordinal + 1}{replica}"
    if place.ordinal:
        return f"if those before it fail{replica}"
    return f"first{replica}, by spillover" if place.cause is Cause.SPILLOVER else f"first{replica}"


def notes(found: Explanation) -> Iterator[str]:
    """What the table does not say by itself."""
    if found.route is not None and sum(len(one.places) for one in found.targets) > 1:
        most = found.route.max_failovers
        others = (
            "no other is tried"
            if most == 0
            else "1 other is tried"
            if most == 1
            else f"at most {most} others are tried"
        )
        yield f"When the first fails, {others}; a target that answers that it is full does not count as failed."
    if any(one.cost.nano_usd for one in found.targets):
        tokens = f"{found.request.input_tokens:,} tokens in and {found.output_tokens:,} out"
        yield f"Costs are for {tokens}{' (assumed: the request sets no limit)' if found.output_assumed else ''}."


def uptime(one: Uptime) -> str:
    """The composite uptime, with what it takes for granted."""
    share = f"{one.share * 100:.4f}".rstrip("0").rstrip(".") + "%"
    if one.targets == 1:
        return f"The one target that may serve this answered {share} of the time."
    known = (
        ""
        if one.known == one.targets
        else f" ({one.known} of {one.targets} are measured, the others count for nothing)"
    )
    some = "At least one of the targets that may serve this"
    return f"{some} answered {share} of the time, if they fail independently{known}."


def barred(one: Exclusion) -> str:
    """What keeps a target out, with the rule's name."""
    return f"{clauses.barred(one)} [{one.rule}]"


def shadowed(one: Exclusion) -> str:
    """What a rule in shadow mode would have done."""
    name = one.rule.partition(".")[2]
    if not one.target:
        return f"the request is over {one.rule}: {one.observed}, allowed {one.limit}"
    what = "would be left out" if one.hard else "would miss a wish"
    return f"{one.target} {what}: {name} is {one.observed}, asked {one.limit} [{one.rule}]"


def rate(one: Scope) -> str:
    """A rate and what is used of it."""
    over = f"; {_MODES[one.mode]}" if one.over else ""
    name = one.rule.rpartition(".")[2]
    return f"{one.scope.replace(':', ' ', 1)}: {one.used:,} of {one.allowed:,} {_UNITS[name]}{over} [{one.rule}]"


def budget(one: Purse) -> Iterator[str]:
    """A budget: what it pays for, what it has left, and what comes after."""
    pays = " and ".join(f"`{target}`" for target in one.targets) or "no target of this model"
    yield f"{one.budget} ({one.enforce}): {' and '.join(one.limits)}, pays for {pays} [budget:{one.budget}]"
    if one.spent_nano_usd is not None and one.free_nano_usd is not None:
        resets = "" if one.resets_in_s is None else f", again whole in {_long(one.resets_in_s)}"
        left = f"{wording.usd(one.free_nano_usd)} to be had here"
        asked = "" if one.known else ", and the store cannot be asked for more"
        yield f"  {wording.usd(one.spent_nano_usd)} of {one.limit} spent, {left}{asked}{resets}"
    if one.targets:
        yield f"  {'too little for this request' if one.over else 'when that is spent'}: {one.then}"


def _long(span_s: float) -> str:
    """A time of seconds, or of minutes to weeks in two units."""
    if span_s < SECONDS_TOLD:
        return wording.seconds(span_s)
    minutes = round(span_s / 60)
    hours, days = minutes // 60, minutes // 1440
    return f"{days} d {hours % 24} h" if days else f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


def observed(seen: Sequence[Observed]) -> Iterator[str]:
    """What was seen of a target's replicas; those of which the same is to be said are taken together."""
    said: dict[str, list[int]] = {}
    for one in seen:
        said.setdefault(_observed(one), []).append(one.replica)
    for what, replicas in said.items():
        if len(seen) == 1:
            yield f"seen: {what}"
        elif len(said) == 1:
            yield f"seen of each replica: {what}"
        else:
            numbers = ", ".join(map(str, replicas))
            yield f"seen of replica{'s' if len(replicas) > 1 else ''} {numbers}: {what}"


def _observed(one: Observed) -> str:
    if not one.seen:
        return "nothing yet, so taken to be idle and healthy"
    limit = f" of {one.max_in_flight}" if one.max_in_flight is not None else ""
    parts = [
        f"{one.in_flight}{limit} in flight",
        _breaker(one),
        f"full for {wording.seconds(one.full_for_s)} more" if one.full_for_s else "",
        f"held back for {wording.seconds(one.paced_for_s)} by its quota" if one.paced_for_s else "",
        *([] if one.work is None else [_work(one.work)]),
        *_latency(one.latency),
        f"uptime {wording.percent(one.uptime)}" if one.uptime is not None else "",
    ]
    if one.quota is not None:
        quota = one.quota
        parts.append(f"quota {quota.remaining:,} of {quota.limit:,} {quota.unit} for {quota.resets_in_s:.0f} s")
    return ", ".join(part for part in parts if part)


def _work(one: Work) -> str:
    """What stands before the request, and what is predicted of it there."""
    learned = f"{one.ttft_factor:.2f} and {one.itl_factor:.2f} times the profile's, of {one.samples:,} waits"
    cached = f", {one.hit_tokens:,} tokens cached" if one.hit_tokens else ""
    work = f"queue {one.queued_tokens:,} tokens, {one.decoding:,} streams over {one.context_tokens:,}{cached}"
    return f"predicted TTFT {wording.seconds(one.ttft_s)} and ITL {wording.seconds(one.itl_s)} ({work}; {learned})"


def _breaker(one: Observed) -> str:
    if one.breaker is Breaker.OPEN:
        return f"breaker open, probe in {wording.seconds(one.probe_in_s or 0.0)}"
    return "breaker half open" if one.breaker is Breaker.HALF_OPEN else ""


def _latency(one: Quantiles) -> Iterator[str]:
    for prefix, name in _MEASURES:
        known = [
            f"p{quantile} {wording.seconds(value)}"
            for quantile in (50, 90, 95, 99)
            if (value := getattr(one, f"{prefix}_p{quantile}_s")) is not None
        ]
        if known:
            yield f"{name} {' '.join(known)}"


def cost(one: Standing) -> str:
    """What the request would cost there."""
    found = one.cost
    if one.lane is Lane.DEDICATED:
        if found.gpus is None or found.gpu_nano_usd_per_hour is None:
            return "costs nothing more: its GPUs are paid by the hour"
        hourly = wording.usd(found.gpu_nano_usd_per_hour)
        return f"costs nothing more: its GPUs ({found.gpus}) are paid for, {hourly} an hour, used or idle"
    if found.nano_usd is None:
        return "cost unknown: no price is stated or listed"
    return f"costs about {wording.usd(found.nano_usd)} (price: {found.price_source})"


def told(one: Told) -> Iterator[tuple[str, str]]:
    """What the client gets, by what it is."""
    yield "status", f"{one.status} {one.code}"
    yield "message", one.message
    if one.retry_after_s is not None:
        yield "retry", f"after {_long(one.retry_after_s)}"
    elif one.retryable is False:
        yield "retry", "of no use: the answer stays the same for as long as the policy does"


def tried(line: Line) -> Iterator[str]:
    """What the log says became of a request."""
    for number, one in enumerate(line.attempts, 1):
        took = "" if one.total_ms is None else f" after {wording.seconds(one.total_ms / 1000)}"
        ended = f"failed ({one.failure})" if one.failure is not None else f"answered {one.status}"
        paid = f", {wording.usd(one.nano_usd)}" if one.nano_usd else ""
        yield f"{number}. {one.target} ({one.lane.value}): {one.reason}; {ended}{took}{paid}"
    if line.refusal is not None:
        yield f"The client got {line.refusal.status} `{line.refusal.code}` (rule {line.refusal.rule})."
    left_out = [f"{one.target or 'the request'} ({one.rule}: {one.observed})" for one in line.excluded]
    if left_out:
        yield f"Left out or put back: {', '.join(left_out)}."
