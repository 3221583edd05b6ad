"""The lower half of *Fleet*: how fresh what the proxies know is, and whether they, store and policy are well."""

from __future__ import annotations

from dashboards.model import Kind, Panel, Query, Row, Unit
from dashboards.promql import OF_TARGET, of_all, or_zero, rate, same_on_all, series
from dashboards.shapes import lines, states

_LISTED = "replicas are listed in the policy"

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
        lines(
            "Age of what discovery found",
            "Since DNS or the cluster last said which replicas there are. While they do not answer, the last answer "
            "holds.",
            Unit.SECONDS,
            Query(expr=same_on_all(series("discovery_age_seconds", OF_TARGET), "target"), legend="{{target}}"),
            width=6,
            limits=((120, "orange"),),
            empty=_LISTED,
        ),
        states(
            "Discovery",
            "Red: DNS or the Kubernetes API does not answer at least one proxy. Check the service account's Role and "
            "the network policy.",
            f"min by (target) ({series('discovery_up', OF_TARGET)})",
            "{{target}}",
            ("no answer", "red"),
            ("answers", "green"),
            width=6,
            empty=_LISTED,
        ),
        lines(
            "Calls of wake hooks",
            "A target of which nobody answers is woken, where the policy has `wake`. `failed`: the hook or its Role is "
            "wrong.",
            Unit.PER_MIN,
            Query(
                expr=f"60 * {of_all(rate(series('wake_calls_total', OF_TARGET)), 'target', 'outcome')}",
                legend="{{target}}, {{outcome}}",
            ),
            width=6,
            empty="nothing had to be woken",
        ),
    ),
)

PROXIES = Row(
    title="The proxies, their store and their policy",
    height=7,
    panels=(
        states(
            "What is degraded",
            "Red: does not work as it should on at least one proxy. `meters`: the store is away, counting in memory. "
            "`journal`: a crash would lose what the store does not have. `/readyz` has it in words.",
            same_on_all(series("degraded"), "rule"),
            "{{rule}}",
            ("well", "green"),
            ("degraded", "red"),
        ),
        states(
            "Store",
            "Red: a proxy cannot reach Redis or Valkey. It serves on; hard budgets spend what they were lent, then "
            "close for shared dollars.",
            series("redis_up"),
            "{{instance}}",
            ("away", "red"),
            ("reached", "green"),
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
        states(
            "Journal on disk",
            "Red: what is counted is in memory only, a crash loses it. Is the data folder writable, and the disk not "
            "full?",
            series("journal_on_disk"),
            "{{instance}}",
            ("memory only", "red"),
            ("on disk", "green"),
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
        states(
            "Policy reloads",
            "Red: the text on the disk has mistakes and is not served; the last good one is. The log and `/readyz` "
            "name file and line; `spillway policy check` does too.",
            series("policy_last_reload_success"),
            "{{instance}}",
            ("refused", "red"),
            ("served", "green"),
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
