"""*Money*: what both lanes cost, what a million tokens cost on each, and what the GPUs save or waste."""

from __future__ import annotations

from dashboards.model import Dashboard, Kind, Panel, Query, Row, Unit
from dashboards.promql import (
    JOB,
    NAMESPACE,
    OF_TARGET,
    SHOWN,
    TARGET,
    of_all,
    or_zero,
    rate,
    rise,
    same_on_all,
    series,
)
from dashboards.shapes import figure, pile

_SHARED = 'lane="shared"'


def _gpu_usd(kind: str) -> str:
    return series("gpu_cost_usd_total", f'kind="{kind}"', OF_TARGET)


def _gpu_seconds(kind: str) -> str:
    return series("gpu_seconds_total", f'kind="{kind}"', OF_TARGET)


def _usd_per_mtok(kind: str) -> str:
    return same_on_all(series("usd_per_mtok", f'kind="{kind}"', OF_TARGET), "target")


def _each_once(expr: str, *by: str) -> str:
    """Cluster-wide per target, then added up over the targets."""
    return of_all(same_on_all(expr, "target", *by), *by)


_SHARED_USD = series("cost_usd_total", _SHARED, OF_TARGET)
_SAVING = series("saving_usd_per_hour", OF_TARGET)
_SPENT = same_on_all(series("budget_spent_usd"), "budget", "window")
_LIMIT = same_on_all(series("budget_limit_usd"), "budget", "window")
_HELD = same_on_all(series("budget_held_usd"), "budget", "window")
_IDLE = _each_once(rise(_gpu_usd("idle")))
_PAID = _each_once(rise(_gpu_usd("provisioned")))
_NEAR_LIMIT = ((0.8, "orange"), (0.99, "red"))


_FIGURES = Row(
    title="In the time range that is shown",
    height=4,
    panels=(
        figure(
            "Paid to providers",
            "Token dollars of the shared lane. When it grows while GPUs are idle, look at Routing: why requests leave.",
            Unit.USD,
            or_zero(of_all(rise(_SHARED_USD))),
            decimals=2,
        ),
        figure(
            "Paid for GPUs",
            "GPU-hours of all dedicated targets by the clock, idle ones included, at the policy's prices.",
            Unit.USD,
            or_zero(_PAID),
            decimals=2,
        ),
        figure(
            "Of that, idle",
            "Share of the GPU dollars for time in which no request was served. It need not be 0: what counts is "
            "whether a million tokens cost less than at the shared price, below.",
            Unit.SHARE,
            f"{_IDLE} / {_PAID}",
        ),
        figure(
            "Saved per hour, now",
            "What the tokens served by GPUs would have cost at the shared price, less what the GPUs cost. Below zero "
            "the GPUs cost more than they save: give some back, or send them more work.",
            Unit.USD,
            of_all(same_on_all(_SAVING, "target")),
            (0, "green"),
            base="red",
            decimals=2,
        ),
        figure(
            "Requests spilled",
            "Share of requests that left the GPUs before any failure. Compare with the idle share: both high at once "
            "is money lost.",
            Unit.SHARE,
            f"{or_zero(of_all(rise(series('spill_total'))))} / {of_all(rise(series('requests_total')))}",
        ),
        figure(
            "Fullest budget",
            "The greatest share of a budget's limit that is spent in its present window. At 100 % a hard budget sends "
            "requests to GPUs, or refuses them, as the policy says.",
            Unit.SHARE,
            f"max({_SPENT} / {_LIMIT})",
            *_NEAR_LIMIT,
            base="green",
        ),
    ),
)

_WHERE = Row(
    title="Where the dollars go",
    height=9,
    panels=(
        Panel(
            title="Dollars per hour",
            means="Both lanes on one pile: providers by the token, GPUs by the clock, those at work and the idle ones. "
            "A tall idle layer under a provider layer means that requests leave while GPUs have room.",
            unit=Unit.USD,
            queries=(
                Query(expr=f"3600 * {_each_once(rate(_gpu_usd('attributed')))}", legend="GPUs at work", colour="green"),
                Query(expr=f"3600 * {_each_once(rate(_gpu_usd('idle')))}", legend="GPUs idle", colour="orange"),
                Query(expr=f"3600 * {or_zero(of_all(rate(_SHARED_USD)))}", legend="providers", colour="blue"),
            ),
            stacked=True,
        ),
        Panel(
            title="Dollars per million tokens",
            means="Solid: what a million tokens really cost on each dedicated target, idle GPUs included. Dashed: what "
            "the same tokens would have cost at the shared price. Solid above dashed for days: the GPUs do not pay.",
            unit=Unit.USD,
            queries=(
                Query(expr=_usd_per_mtok("effective"), legend="{{target}}"),
                Query(expr=_usd_per_mtok("shared"), legend="{{target}}, shared price", dashed=True),
            ),
            decimals=2,
        ),
    ),
)

_TARGETS = Row(
    title="What each deployment costs and saves",
    height=6,
    panels=(
        Panel(
            title="Dedicated targets, now",
            means="One line for each deployment. A negative saving says that it costs more than it saves; "
            "`spillway advise` says whether to give GPUs back, and with what certainty. There is none where some of "
            "its tokens have no shared alternative.",
            unit=Unit.USD,
            kind=Kind.TABLE,
            width=24,
            queries=(
                Query(
                    expr=f"3600 * {same_on_all(rate(_gpu_usd('provisioned'), SHOWN), 'target')}",
                    legend="GPUs, $ per hour",
                ),
                Query(expr=_usd_per_mtok("effective"), legend="$ per million tokens"),
                Query(expr=_usd_per_mtok("shared"), legend="at the shared price"),
                Query(expr=same_on_all(_SAVING, "target"), legend="saved, $ per hour"),
                Query(
                    expr=f"{same_on_all(rise(_gpu_seconds('idle')), 'target')}"
                    f" / {same_on_all(rise(_gpu_seconds('provisioned')), 'target')}",
                    legend="idle",
                    unit=Unit.SHARE,
                ),
            ),
        ),
    ),
)

_GPUS = Row(
    title="What the GPUs do for it",
    panels=(
        Panel(
            title="GPUs paid for",
            means="How many GPUs the clock counts, by what they do. The green part belongs to requests; the rest to "
            "nobody.",
            unit=Unit.GPUS,
            queries=(
                Query(expr=_each_once(rate(_gpu_seconds("attributed"))), legend="at work", colour="green"),
                Query(expr=_each_once(rate(_gpu_seconds("idle"))), legend="idle", colour="orange"),
            ),
            width=8,
            stacked=True,
            decimals=1,
        ),
        Panel(
            title="Idle share by target",
            means="Share of the GPU time of a target in which it served nobody. Nights are idle; office hours should "
            "not be.",
            unit=Unit.SHARE,
            queries=(
                Query(
                    expr=f"{same_on_all(rate(_gpu_seconds('idle')), 'target')}"
                    f" / {same_on_all(rate(_gpu_seconds('provisioned')), 'target')}",
                    legend="{{target}}",
                ),
            ),
            width=8,
            most=1,
        ),
        Panel(
            title="Saved per hour, by target",
            means="The shared price of the tokens that the target served, less what its GPUs cost. Below zero it cost "
            "more than it saved.",
            unit=Unit.USD,
            queries=(Query(expr=same_on_all(_SAVING, "target"), legend="{{target}}"),),
            width=8,
            base="red",
            limits=((0, "green"),),
            least=None,
        ),
        pile(
            "Provider dollars per hour, by target",
            "Which provider gets the money. Prices come from the policy, else from the packaged price list.",
            Unit.USD,
            f"3600 * {of_all(rate(_SHARED_USD), 'target')}",
            "{{target}}",
        ),
        pile(
            "Tokens per second, by target",
            "All tokens, of prompts and of answers: the work that the dollars bought.",
            Unit.TOKENS_PER_S,
            of_all(rate(series("tokens_total", OF_TARGET)), "target"),
            "{{target}}",
        ),
        pile(
            "Tokens per second, by direction",
            "Prompts and answers. Providers price them apart, and engines decode answers many times slower than they "
            "read prompts.",
            Unit.TOKENS_PER_S,
            of_all(rate(series("tokens_total", OF_TARGET)), "direction"),
            "{{direction}}",
        ),
    ),
)

_BUDGETS = Row(
    title="Budgets, and how exact the figures are",
    panels=(
        Panel(
            title="Budgets: share of the limit that is spent",
            means="Of the present window of each. Orange from 80 %; at 100 % what the policy says under `exhausted` "
            "holds. `spillway status` says when the window ends.",
            unit=Unit.SHARE,
            kind=Kind.BARS,
            queries=(Query(expr=f"{_SPENT} / {_LIMIT}", legend="{{budget}} per {{window}}", now=True),),
            width=8,
            limits=_NEAR_LIMIT,
            most=1,
        ),
        Panel(
            title="Budgets in dollars",
            means="Held is set aside for requests under way, or lent to a proxy. A soft budget may be overspent by "
            "what was in flight; a hard one never. Passed: warnings given for it since the proxies started.",
            unit=Unit.USD,
            kind=Kind.TABLE,
            queries=(
                Query(expr=_LIMIT, legend="limit"),
                Query(expr=_SPENT, legend="spent"),
                Query(expr=_HELD, legend="held"),
                Query(expr=of_all(series("budget_alerts_total"), "budget", "window"), legend="passed", unit=Unit.COUNT),
            ),
            width=8,
        ),
        Panel(
            title="Charged by estimate, or not at all",
            means="Share of attempts whose usage no upstream confirmed (charged by estimate), and of those at a shared "
            "target without a known price (charged nothing). Give the target a `price`, or ask its provider for usage.",
            unit=Unit.SHARE,
            queries=tuple(
                Query(
                    expr=f"{or_zero(of_all(rate(series(f'{name}_requests_total', OF_TARGET))))}"
                    f" / {of_all(rate(series('requests_total', OF_TARGET)))}",
                    legend=legend,
                )
                for name, legend in (("estimated", "estimated"), ("unpriced", "without a price"))
            ),
            width=8,
            limits=((0.05, "orange"),),
            base="transparent",
        ),
    ),
)

MONEY = Dashboard(
    name="money",
    title="Spillway: Money",
    means="What both lanes cost, what a million tokens cost on each, and what the GPUs save or waste",
    choices=(NAMESPACE, JOB, TARGET),
    rows=(_FIGURES, _WHERE, _TARGETS, _GPUS, _BUDGETS),
)
