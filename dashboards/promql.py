"""Pieces of PromQL, so that the same thing is asked in the same way on every panel.

Theory of operation
-------------------
Metrics are of two kinds. What a process counts of its own requests is summed over the proxies. What all proxies tell
of the whole cluster (GPU money, replicas, budgets, work at a replica) is the same on each, as last heard: there the
greatest is right and a sum would count it once for every proxy. `of_all` and `same_on_all` are the two ways; nothing
else aggregates.

The label `endpoint` is not used: the Prometheus operator puts the name of the scraped port there.
"""

from __future__ import annotations

from dashboards.model import Choice

INSTALLATION = 'namespace="$namespace", job="$job"'
"""One installation: the proxies behind one job."""
OF_TARGET = 'target=~"$target"'
OF_ROUTE = 'route=~"$route"'
RECENT = "$__rate_interval"
SHOWN = "$__range"

NAMESPACE = Choice(name="namespace", label="Namespace", query="label_values(spillway_build_info, namespace)")
JOB = Choice(name="job", label="Job", query='label_values(spillway_build_info{namespace="$namespace"}, job)')
ROUTE = Choice(
    name="route",
    label="Route",
    query=f"label_values(spillway_requests_total{{{INSTALLATION}}}, route)",
    any_of=True,
)
TARGET = Choice(
    name="target",
    label="Target",
    query=f"label_values(spillway_upstream_state{{{INSTALLATION}}}, target)",
    any_of=True,
)


def series(name: str, *matchers: str) -> str:
    """The series of a metric in the chosen installation."""
    return f"spillway_{name}{{{', '.join((INSTALLATION, *matchers))}}}"


def rate(selected: str, over: str = RECENT) -> str:
    """A counter's rise per second."""
    return f"rate({selected}[{over}])"


def rise(selected: str, over: str = SHOWN) -> str:
    """How much a counter rose."""
    return f"increase({selected}[{over}])"


def of_all(expr: str, *by: str) -> str:
    """The sum over all proxies of what each has counted."""
    return f"sum{_by(by)} ({expr})"


def same_on_all(expr: str, *by: str) -> str:
    """What every proxy tells of the whole cluster, once."""
    return f"max{_by(by)} ({expr})"


def quantile(q: str, name: str, by: str, *matchers: str, over: str = RECENT) -> str:
    """A quantile of a histogram over all proxies; of what nobody asked for lately there is none, not NaN."""
    buckets = rate(series(f"{name}_bucket", *matchers), over)
    return f"(histogram_quantile({q}, {of_all(buckets, 'le', *filter(None, (by,)))}) >= 0)"


def or_zero(expr: str) -> str:
    """Nothing counted yet is none."""
    return f"({expr} or vector(0))"


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""
