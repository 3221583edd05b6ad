"""The lower half of *Fleet*: how fresh what the proxies know is, and whether they, store and policy are well."""

from __future__ import annotations

from dashboards.model import Kind, Panel, Query, Row, State, Unit
from dashboards.promql import OF_TARGET, of_all, or_zero, rate, same_on_all, series
from dashboards.shapes import lines

_OK = (State(value=0, word="well", colour="green"), State(value=1, word="degraded", colour="red"))


SOURCES = Row(
    title="How fresh is what we know",
    height=7,
    panels=(
        lines(
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

PROXIES = Row(
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
        lines(
            "Age of what the store knows",
            "Since everything counted was known to be stored. A fraction of a second is normal; while it grows, "
            "budgets and other proxies' work are seen late.",
            Unit.SECONDS,
            Query(expr=same_on_all(series("sync_age_seconds"), "instance"), legend="{{instance}}"),
            limits=((30, "orange"),),
        ),
        lines(
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
        lines(
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
        lines(
            "Policies adopted and refused",
            "How many policies each proxy has adopted since it started, and (dashed) how many texts it refused.",
            Unit.COUNT,
            Query(expr=series("policy_generation"), legend="{{instance}}, adopted"),
            Query(expr=series("policy_reload_failures_total"), legend="{{instance}}, refused", dashed=True),
        ),
    ),
)
