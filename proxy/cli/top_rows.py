"""The rows of `spillway top`: targets, replicas, routes, budgets and the last decisions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.text import Text

from proxy.cli.pod_words import pod_words
from proxy.cli.top_section import USUAL, WIDE, Column, Section
from proxy.cli.top_words import (
    DIM,
    GREEN,
    LANES,
    NOTHING,
    RED,
    YELLOW,
    bar,
    count,
    percent,
    plain,
    rate,
    seconds,
    usd,
    word,
)
from proxy.live.view import DecisionHere, LiveView, ObjectiveHere, ReplicaView, RouteView, TargetMoney, TargetView
from proxy.meters.standing import State
from proxy.policy.model import Lane
from proxy.routing.plan import Cause
from proxy.routing.readings import Breaker

_BAR = 6
_NEVER = 100_000
"""As wide is no terminal."""
_BREAKERS = {Breaker.CLOSED: ("serves", GREEN), Breaker.HALF_OPEN: ("trying", YELLOW), Breaker.OPEN: ("open", RED)}
_STATES = {State.OPEN: GREEN, State.ALERT: YELLOW, State.EXHAUSTED: RED, State.UNKNOWN: DIM}
_OUTCOMES = {"ok": "", "failed": RED, "refused": RED, "client_left": DIM}


def target_rows(view: LiveView) -> Section:
    """Every target, dedicated ones first; without room for all, the busiest."""
    columns = [
        Column("target", gives=True, most=32),
        Column("lane", since=WIDE),
        Column("region", gives=True, most=16, since=WIDE),
        Column("in flight", right=True),
        Column("full"),
        Column("state"),
        Column("req/s", right=True, since=USUAL),
        Column("tok/s", right=True, since=USUAL),
        Column("ttft p50", right=True, since=USUAL),
        Column("p99", right=True),
        Column("itl p99", right=True, since=WIDE),
        Column("e2e p99", right=True, since=WIDE),
        Column("up", right=True, since=WIDE),
        Column("$/M", right=True),
        Column("shared $/M", right=True, since=WIDE),
        Column("idle", right=True, since=WIDE),
        Column("$/h", right=True, since=WIDE),
        Column("quota", gives=True, most=36, since=WIDE if any(one.quota for one in view.targets) else _NEVER),
    ]
    if any(pod_words(one.found) for one in view.targets):
        columns.append(Column("pods", takes=True))
    ordered = sorted(view.targets, key=lambda one: (one.lane is Lane.SHARED, -one.in_flight))
    return Section(columns, [_target(one)[: len(columns)] for one in ordered], "targets")


def _target(one: TargetView) -> list[Text | str]:
    latency, money = one.latency_here, one.money or TargetMoney()
    price, beside = money.nano_usd_per_mtok, money.shared_nano_usd_per_mtok
    return [
        word(one.name, f"bold {LANES[one.lane]}"),
        Text(one.lane.value, LANES[one.lane]),
        word(one.region, DIM),
        count(one.in_flight),
        bar(one.saturation, _BAR) if one.lane is Lane.DEDICATED else Text(),
        _state(one),
        rate(one.requests_per_s_here),
        rate(one.input_tokens_per_s_here + one.output_tokens_per_s_here),
        seconds(latency.ttft.p50_s),
        seconds(latency.ttft.p99_s),
        seconds(latency.itl.p99_s),
        seconds(latency.e2e.p99_s),
        percent(one.uptime_here),
        Text(usd(price), _price_style(price, beside)),
        usd(beside),
        percent(money.idle_share),
        usd(money.nano_usd_per_h),
        word(one.quota, DIM),
        word(pod_words(one.found), YELLOW),
    ]


def _price_style(price: int | None, beside: int | None) -> str:
    """Whether one's own tokens are cheaper than the shared ones of the same model."""
    if price is None or beside is None:
        return ""
    return GREEN if price <= beside else "red"


def _state(one: TargetView) -> Text:
    if one.breaker is None:
        return Text("asleep", YELLOW)
    name, style = _BREAKERS[one.breaker]
    if one.breaker is Breaker.OPEN:
        waits = [replica.open_for_s for replica in one.replicas if replica.open_for_s is not None]
        return Text(f"open {seconds(min(waits))}" if waits else name, style, no_wrap=True)
    full = [replica.full_for_s for replica in one.replicas if replica.full_for_s is not None]
    if one.replicas and len(full) == len(one.replicas):
        return Text(f"full {seconds(min(full))}", YELLOW, no_wrap=True)
    if one.replicas_serving < len(one.replicas):
        return Text(f"{one.replicas_serving} of {len(one.replicas)}", YELLOW, no_wrap=True)
    return Text(name, style)


def replica_rows(view: LiveView) -> Section:
    """The replicas of dedicated targets, and what their engines say."""
    columns = [
        Column("replica", gives=True, most=36),
        Column("at", gives=True, most=36),
        Column("in flight", right=True),
        Column("full"),
        Column("by"),
        Column("waiting", right=True),
        Column("queued tok", right=True),
        Column("decoding", right=True),
        Column("kv", right=True),
        Column("factors"),
        Column("warm", right=True),
        Column("state"),
    ]
    rows = [
        _replica(target, replica)
        for target in view.targets
        if target.lane is Lane.DEDICATED
        for replica in target.replicas
    ]
    return Section(columns, rows, "replicas")


def _replica(target: TargetView, one: ReplicaView) -> list[Text | str]:
    factors = (
        NOTHING if one.ttft_factor is None or one.itl_factor is None else f"{one.ttft_factor:.2f} {one.itl_factor:.2f}"
    )
    name, style = _BREAKERS[one.breaker]
    wait_s = one.open_for_s if one.open_for_s is not None else one.full_for_s
    return [
        word(f"{target.name}/{one.replica}"),
        word(one.host, DIM),
        count(one.in_flight),
        bar(one.saturation, _BAR),
        Text(one.saturated_by, DIM),
        count(one.waiting),
        count(one.queued_prompt_tokens),
        count(one.decoding),
        percent(one.kv_use),
        factors,
        percent(one.warmth),
        Text(name if wait_s is None else f"{'full' if one.open_for_s is None else name} {seconds(wait_s)}", style),
    ]


def route_rows(view: LiveView) -> Section:
    """Every route: where its requests went in the last minute, and what it got of what it wants."""
    columns = [
        Column("route", gives=True, most=24),
        Column("req/s", right=True),
        Column("dedicated"),
        Column("spilled by", gives=True, most=40),
        Column("failed", right=True, since=WIDE),
        Column("refused", right=True, since=WIDE),
        Column("uptime", right=True, since=WIDE),
        Column("wants", takes=True),
    ]
    ordered = sorted(view.routes, key=lambda one: -one.requests_here)
    return Section(columns, [_route(one) for one in ordered], "routes")


def _route(one: RouteView) -> list[Text | str]:
    reasons = ", ".join(f"{plain(rule)} {count(times)}" for rule, times in one.spilled_by_here.items())
    return [
        word(one.name, "bold"),
        rate(one.requests_per_s_here),
        _split(one.dedicated_share_here),
        word(reasons, YELLOW),
        _some(one.failed_here),
        _some(one.refused_here),
        percent(one.uptime_here),
        _wants(one),
    ]


def _split(share: float | None) -> Text:
    """Both lanes' parts of a bar."""
    if share is None:
        return Text(NOTHING, DIM)
    own = round(share * _BAR)
    return Text.assemble(("█" * own, LANES["dedicated"]), ("█" * (_BAR - own), LANES["shared"]), f"{share:>5.0%}")


def _wants(one: RouteView) -> Text:
    """Its objectives, each with what was observed; without one, the slowest first tokens."""
    text = Text(no_wrap=True, overflow="ellipsis")
    for objective in one.objectives:
        text.append_text(_objective(objective)).append("  ")
    if not one.objectives:
        text.append(f"ttft p99 {seconds(one.latency_here.ttft.p99_s)}", DIM)
    return text


def _objective(one: ObjectiveHere) -> Text:
    style = DIM if one.met is None else GREEN if one.met else RED
    sign = " " if one.met is None else "✓" if one.met else "✗"
    return Text.assemble(
        f"{plain(one.rule)} ", (f"{seconds(one.observed_s)}{sign}", style), (f" of {seconds(one.limit_s)}", DIM)
    )


def _some(number: int) -> Text:
    return Text(count(number), RED if number else DIM)


def budget_rows(view: LiveView) -> Section:
    """Budgets, those nearest their end first."""
    columns = [
        Column("budget", gives=True, most=32),
        Column("per"),
        Column("used"),
        Column("spent", right=True),
        Column("held", right=True, since=USUAL),
        Column("limit", right=True),
        Column("resets in", right=True, since=USUAL),
        Column("state"),
    ]
    ordered = sorted(view.budgets, key=lambda one: (-one.used_share, one.name))
    rows: list[list[Text | str]] = [
        [
            word(one.name, "bold"),
            one.per.value,
            bar(one.used_share, _BAR, warn=0.8, full=1.0),
            usd(one.spent_nano_usd),
            usd(one.held_nano_usd),
            usd(one.limit_nano_usd),
            "never" if one.resets_in_s is None else seconds(one.resets_in_s),
            Text(one.state.value, _STATES[one.state]),
        ]
        for one in ordered
    ]
    return Section(columns, rows, "budgets")


def decisions_of(view: LiveView, most: int) -> list[DecisionHere]:
    """The last ones, newest first; up to half of them are out of the ordinary, or a busy proxy would show none."""
    chosen = {(one.request_id, one.at): one for one in view.notable[: most // 2]}
    for one in view.decisions:
        if len(chosen) >= most:
            break
        chosen.setdefault((one.request_id, one.at), one)
    return sorted(chosen.values(), key=lambda one: -one.at)


def decision_rows(decisions: Sequence[DecisionHere], *, wide: bool) -> Section:
    """The decisions, with their reasons; their routes, if they are not all of the same."""
    several = len({one.route for one in decisions}) > 1
    columns = [
        Column("time"),
        Column("tenant", since=WIDE),
        Column("model", since=WIDE),
        Column("route", since=USUAL if several else WIDE),
        Column("target"),
        Column("ttft", right=True, since=USUAL),
        Column("took", right=True, since=WIDE),
        Column("tokens", right=True, since=USUAL),
        Column("cost", right=True),
        Column("why", takes=True),
    ]
    return Section(columns, [_decision(one, wide=wide) for one in decisions], "decisions")


def _decision(one: DecisionHere, *, wide: bool) -> list[Text | str]:
    style, tokens = _OUTCOMES.get(one.outcome, ""), one.input_tokens + one.output_tokens
    return [
        Text(datetime.fromtimestamp(one.at, UTC).astimezone().strftime("%H:%M:%S"), DIM),
        _short(one.tenant, 16),
        _short(one.model, 28),
        _short(one.route or NOTHING, 18 if wide else 10),
        _short(one.target or str(one.status or NOTHING), 24 if wide else 16, LANES[one.lane] if one.lane else style),
        seconds(one.ttft_s),
        seconds(one.duration_s),
        f"{'~' if one.estimated else ''}{count(tokens)}" if tokens else NOTHING,
        "unpriced" if one.unpriced else usd(one.nano_usd) if one.nano_usd else NOTHING,
        word(why(one), style or (DIM if one.cause == Cause.PREFERRED else "")),
    ]


def _short(name: str, width: int, style: str = "") -> Text:
    text = word(name, style)
    text.truncate(width, overflow="ellipsis")
    return text


def why(one: DecisionHere) -> str:
    """The reason in words: what made it end as it did, or why it went where it went."""
    left = next((f"{out.target} {out.rule} {out.observed}".strip() for out in one.excluded), "")
    if one.outcome == "ok":
        return f"{one.reason}{' (relaxed)' if one.relaxed else ''}"
    told = f"{one.outcome.replace('_', ' ')}: {one.failure}" if one.failure != one.outcome else "client left"
    return f"{told} ({left})" if left and one.outcome == "refused" else told
