"""*Latency*: what users feel beside what they were promised, and where the time goes."""

from __future__ import annotations

from dashboards.model import Choice, Dashboard, Kind, Panel, Query, Row, Unit
from dashboards.promql import (
    JOB,
    NAMESPACE,
    OF_ROUTE,
    OF_TARGET,
    RECENT,
    ROUTE,
    SHOWN,
    TARGET,
    quantile,
    same_on_all,
    series,
)
from dashboards.shapes import lines

_SERVED = 'lane!="none"'
_SECONDS = {
    "ttft": ("time_to_first_token_seconds", "First token"),
    "itl": ("inter_token_seconds", "Between tokens"),
    "e2e": ("request_duration_seconds", "Whole reply"),
}
_PERCENTILES = {"p50": "0.5", "p90": "0.9", "p95": "0.95", "p99": "0.99"}
_QUANTILE = Choice(
    name="quantile",
    label="Percentile",
    given=tuple((name, q) for name, q in sorted(_PERCENTILES.items(), reverse=True)),
)
_CHOSEN = "${quantile:text}"


def _matchers(measure: str) -> tuple[str, ...]:
    return (OF_ROUTE, OF_TARGET, _SERVED) if measure == "e2e" else (OF_ROUTE, OF_TARGET)


def _observed(measure: str, q: str, by: str, over: str = RECENT) -> str:
    return quantile(q, _SECONDS[measure][0], by, *_matchers(measure), over=over)


def _objective(name: str) -> str:
    return same_on_all(series("objective_seconds", f'objective="{name}"', OF_ROUTE), "route")


def _used(over: str, **more: bool) -> tuple[Query, ...]:
    """Share of each objective that the percentile takes; nothing where a route has no such objective."""
    return tuple(
        Query(
            expr=f"{_observed(measure, q, 'route', over)} / on (route) {_objective(f'{measure}_{name}')}",
            legend=f"{{{{route}}}}: {measure} {name}",
            now=more.get("now", False),
        )
        for measure in _SECONDS
        for name, q in _PERCENTILES.items()
    )


_OBJECTIVES = Row(
    title="Are we inside our objectives?",
    panels=(
        Panel(
            title="Share of each objective that is used, in the time range shown",
            means="A route's percentile by the objective that its policy states under `want` or `require`; 100 % is "
            "the objective. Red: users wait longer than promised. See below which target is slow, and whether it "
            "queues.",
            unit=Unit.SHARE,
            kind=Kind.BARS,
            queries=_used(SHOWN, now=True),
            limits=((0.9, "orange"), (1, "red")),
            decimals=0,
        ),
        Panel(
            title="Share of each objective that is used, over time",
            means="The same, over the last few scrapes. A rise with the load is queueing: more goes to shared targets, "
            "or more replicas are needed (Fleet). A step is a change: see the policy changes in purple.",
            unit=Unit.SHARE,
            queries=_used(RECENT),
            limits=((1, "red"),),
            base="transparent",
        ),
    ),
)

_ADVICE = {
    "ttft": "From the request's arrival to its first content. High on a dedicated target: its engine queues, or "
    "prompts are long. High on a shared one: the provider is slow, and a `hedge` may help.",
    "itl": "Mean gap between the chunks of a reply: how fast text appears. High on a dedicated target: too many "
    "streams at once, or steps that are too long; see `max_in_flight` and `max_batched_tokens`.",
    "e2e": "From request to end of reply. It grows with the length of answers, so judge it with the two above.",
}


def _by_route(measure: str) -> Panel:
    return Panel(
        title=f"{_SECONDS[measure][1]}, {_CHOSEN}, by route",
        means=f"{_ADVICE[measure]} Dashed: the route's objective at this percentile, where it has one.",
        unit=Unit.SECONDS,
        queries=(
            Query(expr=_observed(measure, "$quantile", "route"), legend="{{route}}"),
            Query(expr=_objective(f"{measure}_{_CHOSEN}"), legend="{{route}}, objective", dashed=True),
        ),
    )


def _by_target(measure: str) -> Panel:
    return Panel(
        title=f"{_SECONDS[measure][1]}, {_CHOSEN}, by target",
        means=_ADVICE[measure],
        unit=Unit.SECONDS,
        queries=(Query(expr=_observed(measure, "$quantile", "target"), legend="{{target}}"),),
    )


def _pace(by: str) -> Panel:
    return Panel(
        title=f"Perceived tokens per second, by {by}",
        means=f"Answer tokens per second as one user sees them: so many or more for all but the slowest 1 % of replies "
        f"(and, dashed, for half of them). People read at about 5 to 10; below that a reply feels slow. By {by}.",
        unit=Unit.TOKENS_PER_S,
        queries=tuple(
            Query(
                expr=quantile(q, "perceived_tokens_per_second", by, OF_ROUTE, OF_TARGET),
                legend=f"{{{{{by}}}}}, {share} of replies",
                dashed=share == "50 %",
            )
            for q, share in (("0.01", "99 %"), ("0.5", "50 %"))
        ),
    )


_FELT = Row(
    title="What users feel",
    panels=(
        *(panel for measure in _SECONDS for panel in (_by_route(measure), _by_target(measure))),
        _pace("route"),
        _pace("target"),
    ),
)


_PARTS = (("queue", "orange"), ("engine", "green"), ("outside", "blue"), ("proxy", "purple"))


def _parts(name: str, title: str) -> Panel:
    return Panel(
        title=title,
        means="Means over five minutes, of the chosen targets, on one pile. `queue` high: the engine has no room; add "
        "replicas or lower `max_in_flight`. `engine` high: long prompts or answers. `outside` high: network, or the "
        "engine's HTTP server. `proxy` is our own. Choose one target to see it alone.",
        unit=Unit.SECONDS,
        queries=(
            Query(
                expr=f"avg by (part) ({series(f'{name}_part_seconds', OF_TARGET)})",
                legend="{{part}}",
            ),
        ),
        colours=_PARTS,
        stacked=True,
    )


def _both_ends(measure: str) -> Panel:
    word = _SECONDS[measure][1].lower()
    return Panel(
        title=f"Engine and clients: {word}, P99",
        means="Dashed: as the engine tells it, of everybody's requests over five minutes. Solid: as our clients saw "
        "it. A gap that grows is outside of the engine: network, connections, tokenizer, or this proxy.",
        unit=Unit.SECONDS,
        queries=(
            Query(
                expr=f"{_observed(measure, '0.99', 'target')} and on (target) {_told(measure)}",
                legend="{{target}}, clients",
            ),
            Query(expr=_told(measure), legend="{{target}}, engine", dashed=True),
        ),
    )


def _told(measure: str) -> str:
    return same_on_all(series(f"engine_{measure}_seconds", 'stat="p99"', OF_TARGET), "target")


_WHERE = Row(
    title="Where the time goes on dedicated targets",
    panels=(
        _parts("ttft", "First token: where the mean time goes"),
        _parts("e2e", "Whole reply: where the mean time goes"),
        _both_ends("ttft"),
        _both_ends("e2e"),
    ),
)

_PROXY = Row(
    title="The proxy itself",
    panels=(
        lines(
            "The proxy's own time before it sends",
            "Parsing, deciding and metering, of all requests. Above 10 ms the process is short of CPU: give it a whole "
            "core, or run more replicas.",
            Unit.SECONDS,
            *(
                Query(expr=quantile(q, "overhead_seconds", ""), legend=name)
                for q, name in (("0.5", "P50"), ("0.99", "P99"))
            ),
            width=6,
            limits=((0.01, "orange"),),
        ),
        lines(
            "Event loop lag",
            "How late each process runs its own clock. Above 100 ms every stream stutters: it is short of CPU, or has "
            "too many streams; add replicas.",
            Unit.SECONDS,
            Query(expr=series("event_loop_lag_seconds"), legend="{{instance}}"),
            width=6,
            limits=((0.1, "red"),),
        ),
        lines(
            "Waiting for room, P95, by route",
            "Of the requests that had to wait, on routes with `wait` or `deadline`: how long. Offline work may wait "
            "for hours; for online work this is time that users see.",
            Unit.SECONDS,
            Query(expr=quantile("0.95", "wait_seconds", "route", OF_ROUTE), legend="{{route}}"),
            width=6,
            empty="nobody had to wait",
        ),
        lines(
            "Until an upstream is told that its client left, P99",
            "From a client's hang-up to the closing of its upstream request, by lane. Above 250 ms, GPUs and providers "
            "work for nobody: the event loop is late.",
            Unit.SECONDS,
            Query(expr=quantile("0.99", "upstream_cancel_seconds", "lane"), legend="{{lane}}"),
            width=6,
            limits=((0.25, "red"),),
            empty="no client left early",
        ),
    ),
)

LATENCY = Dashboard(
    name="latency",
    title="Spillway: Latency",
    means="What users feel beside what they were promised, and where the time goes",
    choices=(NAMESPACE, JOB, _QUANTILE, ROUTE, TARGET),
    rows=(_OBJECTIVES, _FELT, _WHERE, _PROXY),
)
