"""*Routing*: which lane requests take, why they leave the GPUs, and what fails or is refused."""

from __future__ import annotations

from dashboards.model import Dashboard, Kind, Panel, Query, Row, Unit
from dashboards.promql import (
    JOB,
    NAMESPACE,
    OF_ROUTE,
    OF_TARGET,
    ROUTE,
    TARGET,
    of_all,
    or_zero,
    rate,
    rise,
    same_on_all,
    series,
)
from dashboards.shapes import figure, pile, states

_REQUESTS = series("requests_total", OF_ROUTE, OF_TARGET)
_LANES = (("dedicated", "green"), ("shared", "blue"), ("none", "red"))
_ENDS = (("ok", "green"), ("refused", "orange"), ("failed", "red"), ("client_left", "text"))
_FROM = 'from=~"$target"'
_OPENED = 'to="open"'


def _share(part: str) -> str:
    return f"{or_zero(of_all(rate(part)))} / {of_all(rate(_REQUESTS))}"


def _ended(outcome: str) -> str:
    return series("requests_total", OF_ROUTE, OF_TARGET, f'outcome="{outcome}"')


_NOW = Row(
    title="Now",
    height=4,
    panels=(
        figure("Requests", "Requests per second, of all proxies.", Unit.PER_S, of_all(rate(_REQUESTS))),
        figure(
            "Spilled",
            "Share of requests that left the GPUs before any failure: full, too slow for the objective, or not worth "
            "it. High for hours: more replicas may be cheaper; see Money, and `spillway advise`.",
            Unit.SHARE,
            f"{or_zero(of_all(rate(series('spill_total'))))} / {of_all(rate(series('requests_total')))}",
        ),
        figure(
            "Refused",
            "Share that the proxy answered itself: no room, a spent budget or rate, or no lawful target. The rules are "
            "below.",
            Unit.SHARE,
            _share(_ended("refused")),
            (0.01, "orange"),
            (0.05, "red"),
        ),
        figure(
            "Failed",
            "Share whose last attempt failed, whatever was tried. Users saw an error. Why is below.",
            Unit.SHARE,
            _share(_ended("failed")),
            (0.005, "orange"),
            (0.02, "red"),
        ),
        figure(
            "Breakers open",
            "Replicas and providers that are out of rotation because they failed; each is tried again by itself.",
            Unit.PLAIN,
            or_zero(
                f"count({same_on_all(series('upstream_state', OF_TARGET), 'target', 'replica')} == 2)",
            ),
            (1, "red"),
        ),
        figure(
            "Waiting for room",
            "Requests that wait now, on routes with `wait` or `deadline`. Offline work waits for idle GPUs by design.",
            Unit.PLAIN,
            of_all(series("waiting_requests")),
        ),
    ),
)

_TAKEN = Row(
    title="Where requests go",
    panels=(
        Panel(
            title="Requests by lane",
            means="Green: your own GPUs. Blue: providers, paid by the token. Red: refused before any target.",
            unit=Unit.PER_S,
            queries=(Query(expr=of_all(rate(_REQUESTS), "lane"), legend="{{lane}}"),),
            width=8,
            stacked=True,
            colours=_LANES,
        ),
        Panel(
            title="Requests by how they ended",
            means="`refused` by a rule of ours, `failed` at an upstream, `client_left` before the end. All but `ok` is "
            "explained further down.",
            unit=Unit.PER_S,
            queries=(Query(expr=of_all(rate(_REQUESTS), "outcome"), legend="{{outcome}}"),),
            width=8,
            stacked=True,
            colours=_ENDS,
        ),
        pile(
            "Answered requests by what chose their target",
            "`preferred`: the first choice. `spillover`: dedicated had no room. `fallback`: an attempt before it "
            "failed. `hedge`: a copy of a slow request was faster.",
            Unit.PER_S,
            of_all(rate(_ended("ok")), "reason"),
            "{{reason}}",
        ),
        pile(
            "Requests by target",
            "Who answered. `none`: refused before any target.",
            Unit.PER_S,
            of_all(rate(_REQUESTS), "target"),
            "{{target}}",
            width=12,
        ),
        pile(
            "Requests by route",
            "Which rule of the policy applied. A route that nobody takes any more can go.",
            Unit.PER_S,
            of_all(rate(_REQUESTS), "route"),
            "{{route}}",
            width=12,
        ),
    ),
)

_SPILL = Row(
    title="Why they leave the GPUs",
    panels=(
        pile(
            "Spilled requests by reason",
            "The first rule that left the dedicated target out: `capacity` and `full`, no room; a `ttft`, `itl` or "
            "`e2e` objective, it would have been too slow; `breaker`, it was down; `asleep`, no pod of it was ready. "
            "`spillway policy explain` tells one request.",
            Unit.PER_S,
            of_all(rate(series("spill_total", _FROM)), "reason"),
            "{{reason}}",
        ),
        pile(
            "Engine time that went elsewhere",
            "Seconds of a replica's time, each second, that were spilled or refused because it had no room: about how "
            "many replicas more would have been busy.",
            Unit.REPLICAS,
            of_all(rate(series("spilled_work_seconds_total", OF_TARGET)), "target"),
            "{{target}}",
        ),
        Panel(
            title="Spilled in the time range, from where to where",
            means="How many requests went from which target to which, and why.",
            unit=Unit.COUNT,
            kind=Kind.TABLE,
            queries=(
                Query(
                    expr=f"sort_desc({of_all(rise(series('spill_total', _FROM)), 'from', 'to', 'reason')} > 0)",
                    legend="requests",
                ),
            ),
            width=8,
            decimals=0,
        ),
    ),
)

_REFUSED = Row(
    title="What is refused",
    panels=(
        pile(
            "Refused requests by rule",
            "`capacity`: no lawful target had room. `breaker`: none was in rotation. `require...`: no target is "
            "lawful. A rate's or budget's name: it is used up. `model`, `match`: the caller asked for what there is "
            "not.",
            Unit.PER_MIN,
            f"60 * {of_all(rate(series('refusals_total')), 'rule', 'status')}",
            "{{rule}} ({{status}})",
        ),
        pile(
            "Kept from leaving, by route",
            "Requests that were refused because their data may not go where room was: region, retention or training. "
            "That is the wall doing its work. A jump means that a lawful target is missing or down.",
            Unit.PER_MIN,
            f"60 * {of_all(rate(series('residency_blocked_total', OF_ROUTE)), 'route')}",
            "{{route}}",
            empty="no rule on where data may be had to refuse any",
        ),
        pile(
            "What rules on trial would have left out",
            "Rules with `mode: shadow` change nothing; this is what they would do. Nothing for a week: they can be "
            "switched on without anybody noticing.",
            Unit.PER_MIN,
            f"60 * {of_all(rate(series('shadow_total', OF_ROUTE)), 'route', 'rule')}",
            "{{route}}: {{rule}}",
            empty="no rule is on trial",
        ),
    ),
)

_FAULTS = Row(
    title="What fails, and what becomes of it",
    panels=(
        states(
            "Breakers",
            "Each replica and provider: green serves, orange is being tried, red is out of rotation because it failed. "
            "Red for long: look at the upstream itself, then at `Attempts that failed`.",
            same_on_all(series("upstream_state", OF_TARGET), "target", "replica"),
            "{{target}} {{replica}}",
            ("serves", "green"),
            ("half-open", "orange"),
            ("open", "red"),
            width=12,
        ),
        pile(
            "Breakers that opened",
            "How often replicas and providers were taken out of rotation. Again and again at one target: it fails now "
            "and then; its limits or timeouts are too tight, or it is overloaded.",
            Unit.PER_MIN,
            f"60 * {of_all(rate(series('breaker_transitions_total', _OPENED, OF_TARGET)), 'target')}",
            "{{target}}",
            width=12,
        ),
        pile(
            "Attempts that failed and were tried elsewhere",
            "Users saw none of these. Many at one target: it is failing, or its provider's limits are too low; set "
            "`limits`, so that requests are paced before it has to refuse.",
            Unit.PER_MIN,
            f"60 * {of_all(rate(series('retries_total', OF_TARGET)), 'target', 'failure')}",
            "{{target}}: {{failure}}",
            empty="no attempt had to be repeated",
        ),
        pile(
            "Failed requests by why",
            "Users saw these: the last attempt failed, too.",
            Unit.PER_MIN,
            f"60 * {of_all(rate(_ended('failed')), 'target', 'reason')}",
            "{{target}}: {{reason}}",
            empty="no request failed",
        ),
        pile(
            "Hedges by result",
            "Copies of requests that were slow to begin. `won`: the copy answered first. Mostly `lost`: the percentile "
            "under `hedge` is too low, and copies cost money for nothing.",
            Unit.PER_MIN,
            f"60 * {of_all(rate(series('hedges_total')), 'from', 'to', 'result')}",
            "{{from}} to {{to}}: {{result}}",
            empty="no route hedges, or nothing was slow",
        ),
        Panel(
            title="Uptime by route",
            means="How often at least one lawful target of the route answers, if they fail independently. Below your "
            "objective: give the route another lawful target.",
            unit=Unit.SHARE,
            queries=(Query(expr=f"min by (route) ({series('route_uptime', OF_ROUTE)})", legend="{{route}}"),),
            least=None,
            most=1,
            decimals=3,
        ),
        pile(
            "Clients that left early",
            "`waiting`: before the first token, so they were tired of waiting or have a short timeout. `stream`: in "
            "the middle of the answer.",
            Unit.PER_MIN,
            f"60 * {of_all(rate(series('client_disconnects_total')), 'phase')}",
            "{{phase}}",
            width=12,
            empty="every client stayed to the end",
        ),
    ),
)

ROUTING = Dashboard(
    name="routing",
    title="Spillway: Routing",
    means="Which lane requests take, why they leave the GPUs, and what fails or is refused",
    choices=(NAMESPACE, JOB, ROUTE, TARGET),
    rows=(_NOW, _TAKEN, _SPILL, _REFUSED, _FAULTS),
)
