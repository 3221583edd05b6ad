"""*Fleet*: whether there are enough replicas, what each has to do, and whether the proxies themselves are well."""

from __future__ import annotations

from dashboards.model import Dashboard, Query, Row, Unit
from dashboards.promql import (
    JOB,
    NAMESPACE,
    OF_TARGET,
    TARGET,
    of_all,
    or_zero,
    quantile,
    rate,
    same_on_all,
    series,
)
from dashboards.proxies import PROXIES, SOURCES
from dashboards.shapes import figure, lines

_NEEDED = same_on_all(series("replicas_needed", OF_TARGET), "target")


def _replicas(state: str) -> str:
    """Of dedicated targets only: those that a need is reckoned for."""
    counted = same_on_all(series("replicas", f'state="{state}"', OF_TARGET), "target")
    return f"({counted} and on (target) {_NEEDED})"


def _at_replicas(name: str, *matchers: str) -> str:
    """What every proxy tells of each replica, once, added up by target."""
    return of_all(same_on_all(series(name, OF_TARGET, *matchers), "target", "replica"), "target")


_UNMET = f"clamp_min({_NEEDED} - {_replicas('serving')}, 0)"


_NOW = Row(
    title="Now",
    height=4,
    panels=(
        figure(
            "Proxies",
            "Proxy processes that answer Prometheus.",
            Unit.PLAIN,
            f"count({series('build_info')})",
            width=3,
            decimals=0,
        ),
        figure(
            "Draining",
            "Proxies that are about to end and take no new requests: a rollout.",
            Unit.PLAIN,
            of_all(series("draining")),
            (1, "blue"),
            width=3,
            decimals=0,
        ),
        figure(
            "Replicas serving",
            "Replicas of dedicated targets that may be given requests.",
            Unit.PLAIN,
            of_all(_replicas("serving")),
            width=3,
            decimals=0,
        ),
        figure(
            "Replicas missing",
            "How many more would be needed for what is in flight and all that was spilled or refused for lack of room. "
            "Above 1 for long: scale up, or leave it to providers on purpose.",
            Unit.COUNT,
            of_all(_UNMET),
            (1, "orange"),
            width=3,
            decimals=1,
        ),
        figure(
            "Ejected",
            "Replicas out of rotation because they failed; each is tried again by itself.",
            Unit.PLAIN,
            of_all(_replicas("ejected")),
            (1, "red"),
            width=3,
            decimals=0,
        ),
        figure(
            "Degraded",
            "Parts that do not work as they should, of all proxies: the store, the journal, the count of replicas. "
            "Requests are served all the same; the row at the bottom says what it is.",
            Unit.PLAIN,
            of_all(series("degraded")),
            (1, "red"),
            width=3,
            decimals=0,
        ),
        figure(
            "Refuse the policy",
            "Proxies that do not serve the text on the disk: it has mistakes, and `spillway policy check` names them.",
            Unit.PLAIN,
            or_zero(f"count({series('policy_last_reload_success')} == 0)"),
            (1, "red"),
            width=3,
            decimals=0,
        ),
        figure(
            "Policy served for",
            "Since the last proxy adopted it. Short, and something is wrong: it may be the policy.",
            Unit.AGE,
            f"time() - max({series('policy_loaded_timestamp_seconds')})",
            width=3,
            decimals=0,
        ),
    ),
)


_ENOUGH = Row(
    title="Are there enough replicas?",
    panels=(
        lines(
            "Replicas needed and present",
            "Dashed: needed for what is in flight and for all that was spilled or refused for lack of room. Solid: "
            "there, and serving. Dashed above solid: this is what an autoscaler should follow.",
            Unit.REPLICAS,
            Query(expr=_replicas("serving"), legend="{{target}}, serving"),
            Query(expr=_NEEDED, legend="{{target}}, needed", dashed=True),
        ),
        lines(
            "Replicas there, and out of rotation",
            "Solid: how many there are. Dashed: of those, how many failed and get no requests for a while.",
            Unit.REPLICAS,
            Query(expr=_replicas("ready"), legend="{{target}}, there"),
            Query(expr=_replicas("ejected"), legend="{{target}}, ejected", dashed=True),
        ),
        lines(
            "Unmet demand",
            "Replicas that are missing, by target. Above 1 for ten minutes while nobody scales: see the autoscaler, or "
            "the quota of GPUs.",
            Unit.REPLICAS,
            Query(expr=_UNMET, legend="{{target}}"),
            limits=((1, "orange"),),
        ),
    ),
)

_WORK = Row(
    title="What the replicas have to do",
    panels=(
        lines(
            "Requests in flight",
            "Of all proxies, by target.",
            Unit.COUNT,
            Query(expr=_at_replicas("inflight_requests"), legend="{{target}}"),
        ),
        lines(
            "Prompt tokens that wait for their first token",
            "Sent to a dedicated replica and not answered yet. It grows when prompts come faster than the engine reads "
            "them; then the first token is late.",
            Unit.TOKENS,
            Query(expr=_at_replicas("queued_prompt_tokens"), legend="{{target}}"),
        ),
        lines(
            "Streams past their first token",
            "What the engines decode at once. More streams share the same step, so each is slower.",
            Unit.COUNT,
            Query(expr=_at_replicas("decoding_streams"), legend="{{target}}"),
        ),
        lines(
            "Requests as the engines count them",
            "Everybody's requests, not only ours. `waiting` above 0 for long: the engine queues; lower "
            "`max_in_flight`. Much more than we sent: somebody else uses the GPUs.",
            Unit.COUNT,
            *(
                Query(expr=_at_replicas("engine_requests", f'state="{state}"'), legend=f"{{{{target}}}}, {state}")
                for state in ("running", "waiting")
            ),
        ),
        lines(
            "KV cache in use, fullest replica",
            "Near 100 % the engine throws requests out of its batch and begins them anew: fewer or shorter requests at "
            "once, or more memory for the cache.",
            Unit.SHARE,
            Query(expr=same_on_all(series("engine_kv_use", OF_TARGET), "target"), legend="{{target}}"),
            limits=((0.95, "red"),),
        ),
        lines(
            "Requests thrown out of a batch",
            "Preemptions, as the engines count them: the cache was full. Each costs the work done so far.",
            Unit.PER_MIN,
            Query(
                expr="60 * "
                + of_all(
                    same_on_all(rate(series("engine_preemptions_total", OF_TARGET)), "target", "replica"), "target"
                ),
                legend="{{target}}",
            ),
            empty="no engine had to preempt any",
        ),
    ),
)

_PREDICTED = Row(
    title="How well waits are predicted",
    panels=(
        lines(
            "Calibration factors, highest replica",
            "How many times the engine profile's prediction 90 % of what was observed stayed below. Far above 1 for "
            "long: the profile does not fit; `spillway calibrate` measures it.",
            Unit.TIMES,
            Query(expr=same_on_all(series("ttft_factor", OF_TARGET), "target"), legend="{{target}}, first token"),
            Query(expr=same_on_all(series("itl_factor", OF_TARGET), "target"), legend="{{target}}, between tokens"),
        ),
        *(
            lines(
                f"Observed by predicted, {word}",
                "1 is what routing reckons with, and nine of ten are to stay below it. P90 well above 1: promises are "
                "missed. P90 well below 1: requests leave for providers although there was room.",
                Unit.TIMES,
                *(
                    Query(
                        expr=quantile(q, "prediction_ratio", "target", f'of="{measure}"', OF_TARGET),
                        legend=f"{{{{target}}}}, {name}",
                    )
                    for q, name in (("0.5", "P50"), ("0.9", "P90"))
                ),
            )
            for measure, word in (("ttft", "first token"), ("itl", "between tokens"))
        ),
    ),
)

FLEET = Dashboard(
    name="fleet",
    title="Spillway: Fleet",
    means="Whether there are enough replicas, what each has to do, and whether the proxies themselves are well",
    choices=(NAMESPACE, JOB, TARGET),
    rows=(_NOW, _ENOUGH, _WORK, _PREDICTED, SOURCES, PROXIES),
)
