"""The text that Prometheus reads, in either of its formats, written fast enough for an event loop.

Theory of operation
-------------------
prometheus_client takes six microseconds to write a line, and a fleet of fifty targets has twenty thousand of them: an
eighth of a second in which nobody is served. Most of that goes into names and labels, which never change. So a series
keeps the *head* of its line, ready made, and only the number after it is written each time. The lines of a family are
written in one go and belong together; between two families others may run.

The formats are the text format 0.0.4 and OpenMetrics 1.0.0, as prometheus_client writes them, byte for byte; labels are
in the order of their names.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.core import Metric
from prometheus_client.utils import floatToGoString

_PLAIN_BELOW = 1_000_000
"""Go writes greater numbers with an exponent."""
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def head(name: str, labels: Mapping[str, str]) -> str:
    """What a sample's line begins with, up to its value."""
    if not labels:
        return f"{name} "
    told = ",".join([f'{label}="{labels[label].translate(_ESCAPES)}"' for label in sorted(labels)])
    return f"{name}{{{told}}} "


def number(value: float) -> str:
    """A sample's value, or a bucket's bound."""
    if type(value) is int and value < _PLAIN_BELOW:
        return f"{value}.0"
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


def opening(name: str, documentation: str, kind: str, *, openmetrics: bool) -> str:
    """The two lines before the samples of a family, whose documentation is one line without quotes or backslashes.

    A counter is called as its samples are in the one format, and without `_total` in the other.
    """
    called = f"{name}_total" if kind == "counter" and not openmetrics else name
    return f"# HELP {called} {documentation}\n# TYPE {called} {kind}\n"


def family_text(family: Metric, *, openmetrics: bool) -> str:
    """One family whose samples are made anew at each scrape: a gauge, or a counter that is kept elsewhere."""
    lines = [opening(family.name, family.documentation, family.type, openmetrics=openmetrics)]
    lines += [f"{head(one.name, one.labels)}{number(one.value)}\n" for one in family.samples]
    return "".join(lines)
