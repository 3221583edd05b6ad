"""*Fleet*: whether there are enough replicas, what each has to do, and whether the proxies themselves are well."""

from __future__ import annotations

from dashboards.model import Dashboard, Kind, Panel, Query, Row, State, Unit
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

_NEEDED = same_on_all(series("replicas_needed", OF_TARGET), "target")
_OK = (State(value=0, word="well", colour="green"), State(value=1, word="degraded", colour="red"))


def _replicas(state: str) -> str:
    """Of dedicated targets only: those that a need is reckoned for."""
    counted = same_on_all(series("replicas", f'state="{state}"', OF_TARGET), "target")
    return f"({counted} and on (target) {_NEEDED})"


def _at_replicas(name: str, *matchers: str) -> str:
    """What every proxy tells of each replica, once, added up by target."""
    return of_all(same_on_all(series(name, OF_TARGET, *matchers), "target", "replica"), "target")


_UNMET = f"clamp_min({_NEEDED} - {_replicas('serving')}, 0)"


def _figure(title: str, means: str, unit: Unit, expr: str, *limits: tuple[float, str], base: str = "green") -> Panel:
    return Panel(
        title=title,
        means=means,
        unit=unit,
        queries=(Query(expr=expr),),
        kind=Kind.FIGURES,
        width=4,
        base=base if limits else "text",
        limits=limits,
        decimals=0 if unit is Unit.PLAIN else 1,
    )


def _lines(
    title: str, means: str, unit: Unit, *queries: Query, width: int = 8, limits: tuple[tuple[float, str], ...] = ()
) -> Panel:
    base = "transparent" if limits else "green"
    return Panel(title=title, means=means, unit=unit, queries=queries, width=width, limits=limits, base=base)


_NOW = Row(
    title="Now",
    height=4,
    panels=(
        _figure("Proxies", "Proxy processes that answer Prometheus.", Unit.PLAIN, f"count({series('build_info')})"),
        _figure(
            "Replicas serving",
            "Replicas of dedicated targets that may be given requests.",
            Unit.PLAIN,
            of_all(_replicas("serving")),
        ),
        _figure(
            "Replicas missing",
            "How many more would be needed for what is in flight and all that was spilled or refused for lack of room. "
            "Above 1 for long: scale up, or leave it to providers on purpose.",
            Unit.COUNT,
            of_all(_UNMET),
            (1, "orange"),
        ),
        _figure(
            "Ejected",
            "Replicas out of rotation because they failed; each is tried again by itself.",
            Unit.PLAIN,
            of_all(_replicas("ejected")),
            (1, "red"),
        ),
        _figure(
            "Degraded",
            "Parts that do not work as they should, of all proxies: the store, the journal, the count of replicas. "
            "Requests are served all the same; the row at the bottom says what it is.",
            Unit.PLAIN,
            of_all(series("degraded")),
            (1, "red"),
        ),
        _figure(
            "Draining",
            "Proxies that are about to end and take no new requests: a rollout.",
            Unit.PLAIN,
            of_all(series("draining")),
            (1, "blue"),
        ),
    ),
)

_ENOUGH = Row(
    title="Are there enough replicas?",
    panels=(
        _lines(
            "Replicas needed and present",
            "Dashed: needed for what is in flight and for all that was spilled or refused for lack of room. Solid: "
            "there, and serving. Dashed above solid: this is what an autoscaler should follow.",
            Unit.REPLICAS,
            Query(expr=_replicas("serving"), legend="{{target}}, serving"),
            Query(expr=_NEEDED, legend="{{target}}, needed", dashed=True),
        ),
        _lines(
            "Replicas by state",
            "`ready` is how many there are: of those, `serving` ones may be given requests, and `ejected` ones failed "
            "and are out of rotation for a while.",
            Unit.REPLICAS,
            *(
                Query(expr=_replicas(state), legend=f"{{{{target}}}}, {state}")
                for state in ("ready", "serving", "ejected")
            ),
        ),
        _lines(
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
        _lines(
            "Requests in flight",
            "Of all proxies, by target.",
            Unit.COUNT,
            Query(expr=_at_replicas("inflight_requests"), legend="{{target}}"),
        ),
        _lines(
            "Prompt tokens that wait for their first token",
            "Sent to a dedicated replica and not answered yet. It grows when prompts come faster than the engine reads "
            "them; then the first token is late.",
            Unit.TOKENS,
            Query(expr=_at_replicas("queued_prompt_tokens"), legend="{{target}}"),
        ),
        _lines(
            "Streams past their first token",
            "What the engines decode at once. More streams share the same step, so each is slower.",
            Unit.COUNT,
            Query(expr=_at_replicas("decoding_streams"), legend="{{target}}"),
        ),
        _lines(
            "Requests as the engines count them",
            "Everybody's requests, not only ours. `waiting` above 0 for long: the engine queues; lower "
            "`max_in_flight`. Much more than we sent: somebody else uses the GPUs.",
            Unit.COUNT,
            *(
                Query(expr=_at_replicas("engine_requests", f'state="{state}"'), legend=f"{{{{target}}}}, {state}")
                for state in ("running", "waiting")
            ),
        ),
        _lines(
            "KV cache in use, fullest replica",
            "Near 100 % the engine throws requests out of its batch and begins them anew: fewer or shorter requests at "
            "once, or more memory for the cache.",
            Unit.SHARE,
            Query(expr=same_on_all(series("engine_kv_use", OF_TARGET), "target"), legend="{{target}}"),
            limits=((0.95, "red"),),
        ),
        Panel(
            title="Requests thrown out of a batch",
            means="Preemptions, as the engines count them: the cache was full. Each costs the work done so far.",
            unit=Unit.PER_MIN,
            queries=(
                Query(
                    expr="60 * "
                    + of_all(
                        same_on_all(rate(series("engine_preemptions_total", OF_TARGET)), "target", "replica"), "target"
                    ),
                    legend="{{target}}",
                ),
            ),
            width=8,
            empty_is_good="no engine had to preempt any",
        ),
    ),
)

_PREDICTED = Row(
    title="How well waits are predicted",
    panels=(
        _lines(
            "Calibration factors, highest replica",
            "How many times the engine profile's prediction 90 % of what was observed stayed below. Far above 1 for "
            "long: the profile does not fit; `spillway calibrate` measures it.",
            Unit.TIMES,
            Query(expr=same_on_all(series("ttft_factor", OF_TARGET), "target"), legend="{{target}}, first token"),
            Query(expr=same_on_all(series("itl_factor", OF_TARGET), "target"), legend="{{target}}, between tokens"),
        ),
        *(
            _lines(
                f"Observed by predicted, {word}",
                "1 is a perfect prediction, calibration included. P90 well above 1: promises are missed. P50 well "
                "below 1: requests leave for providers although there was room.",
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

_SOURCES = Row(
    title="How fresh is what we know",
    height=7,
    panels=(
        _lines(
            "Age of the engines' metrics, oldest replica",
            "They are read about once a second. Stale ones are not used: KV pressure and other people's requests go "
            "unseen then. Is `/metrics` reachable, with the target's key?",
            Unit.SECONDS,
            Query(expr=same_on_all(series("engine_metrics_age_seconds", OF_TARGET), "target"), legend="{{target}}"),
            width=6,
            limits=((30, "orange"),),
        ),
        Panel(
            title="Age of what discovery found",
            means="Since DNS or the cluster last said which replicas there are. While they do not answer, the last "
            "answer holds.",
            unit=Unit.SECONDS,
            queries=(
                Query(expr=same_on_all(series("discovery_age_seconds", OF_TARGET), "target"), legend="{{target}}"),
            ),
            width=6,
            limits=((120, "orange"),),
            base="transparent",
            empty_is_good="replicas are listed in the policy",
        ),
        Panel(
            title="Discovery",
            means="Red: DNS or the Kubernetes API does not answer at least one proxy. Check the service account's Role "
            "and the network policy.",
            unit=Unit.PLAIN,
            kind=Kind.STATES,
            queries=(Query(expr=f"min by (target) ({series('discovery_up', OF_TARGET)})", legend="{{target}}"),),
            width=6,
            states=(State(value=0, word="no answer", colour="red"), State(value=1, word="answers", colour="green")),
            empty_is_good="replicas are listed in the policy",
        ),
        Panel(
            title="Calls of wake hooks",
            means="A target of which nobody answers is woken, where the policy has `wake`. `failed`: the hook or its "
            "Role is wrong.",
            unit=Unit.PER_MIN,
            queries=(
                Query(
                    expr=f"60 * {of_all(rate(series('wake_calls_total', OF_TARGET)), 'target', 'outcome')}",
                    legend="{{target}}, {{outcome}}",
                ),
            ),
            width=6,
            empty_is_good="nothing had to be woken",
        ),
    ),
)

_PROXIES = Row(
    title="The proxies, their store and their policy",
    height=7,
    panels=(
        Panel(
            title="What is degraded",
            means="Red: does not work as it should on at least one proxy. `meters`: the store is away, counting in "
            "memory. `journal`: a crash would lose what the store does not have. `/readyz` has it in words.",
            unit=Unit.PLAIN,
            kind=Kind.STATES,
            queries=(Query(expr=same_on_all(series("degraded"), "rule"), legend="{{rule}}"),),
            width=8,
            states=_OK,
        ),
        Panel(
            title="Store",
            means="Red: a proxy cannot reach Redis or Valkey. It serves on; hard budgets spend what they were lent, "
            "then close for shared dollars.",
            unit=Unit.PLAIN,
            kind=Kind.STATES,
            queries=(Query(expr=series("redis_up"), legend="{{instance}}"),),
            width=8,
            states=(State(value=0, word="away", colour="red"), State(value=1, word="reached", colour="green")),
        ),
        _lines(
            "Age of what the store knows",
            "Since everything counted was known to be stored. A fraction of a second is normal; while it grows, "
            "budgets and other proxies' work are seen late.",
            Unit.SECONDS,
            Query(expr=same_on_all(series("sync_age_seconds"), "instance"), legend="{{instance}}"),
            limits=((30, "orange"),),
        ),
        _lines(
            "Journal",
            "Counts that the store does not have yet, on each proxy's disk. It grows while the store is away.",
            Unit.BYTES,
            Query(expr=series("journal_bytes"), legend="{{instance}}"),
        ),
        Panel(
            title="Journal on disk",
            means="Red: what is counted is in memory only, a crash loses it. Is the data folder writable, and the disk "
            "not full?",
            unit=Unit.PLAIN,
            kind=Kind.STATES,
            queries=(Query(expr=series("journal_on_disk"), legend="{{instance}}"),),
            width=8,
            states=(
                State(value=0, word="memory only", colour="red"),
                State(value=1, word="on disk", colour="green"),
            ),
        ),
        _lines(
            "Lines and notes that were lost",
            "Request log lines nobody read in time, lines the decision log lost, notes for which the journal had no "
            "room, and trace spans. Should be 0: a full disk, or a collector that is too slow.",
            Unit.PER_MIN,
            *(
                Query(expr=f"60 * {or_zero(of_all(rate(series(f'{name}_dropped_total'))))}", legend=legend)
                for name, legend in (
                    ("log_lines", "request log"),
                    ("decision_log_lines", "decision log"),
                    ("journal", "journal"),
                    ("spans", "traces"),
                )
            ),
        ),
        Panel(
            title="Policies and versions that are served",
            means="More than one line of a revision for longer than a reload takes: some proxies did not get the new "
            "policy. More than one version: a rollout is under way, or stuck.",
            unit=Unit.COUNT,
            kind=Kind.TABLE,
            queries=(
                Query(
                    expr=f"count by (revision, version) ({series('policy_info')}"
                    f" * on (job, instance) group_left (version) {series('build_info')})",
                    legend="proxies",
                ),
            ),
            width=8,
        ),
        Panel(
            title="Policy reloads",
            means="Red: the text on the disk has mistakes and is not served; the last good one is. The log and "
            "`/readyz` name file and line; `spillway policy check` does too.",
            unit=Unit.PLAIN,
            kind=Kind.STATES,
            queries=(Query(expr=series("policy_last_reload_success"), legend="{{instance}}"),),
            width=8,
            states=(State(value=0, word="refused", colour="red"), State(value=1, word="served", colour="green")),
        ),
        _lines(
            "Policies adopted and refused",
            "How many policies each proxy has adopted since it started, and (dashed) how many texts it refused.",
            Unit.COUNT,
            Query(expr=series("policy_generation"), legend="{{instance}}, adopted"),
            Query(expr=series("policy_reload_failures_total"), legend="{{instance}}, refused", dashed=True),
        ),
        Panel(
            title="Served since",
            means="When each proxy adopted the policy that it serves: the same few seconds on all, unless one started "
            "later.",
            unit=Unit.WHEN,
            kind=Kind.TABLE,
            queries=(
                Query(
                    expr=f"1000 * {same_on_all(series('policy_loaded_timestamp_seconds'), 'instance')}",
                    legend="policy adopted",
                ),
            ),
            width=24,
        ),
    ),
)

FLEET = Dashboard(
    name="fleet",
    title="Spillway: Fleet",
    means="Whether there are enough replicas, what each has to do, and whether the proxies themselves are well",
    choices=(NAMESPACE, JOB, TARGET),
    rows=(_NOW, _ENOUGH, _WORK, _PREDICTED, _SOURCES, _PROXIES),
)
