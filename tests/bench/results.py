"""The figures of one benchmark: for each system and measure a sample per repetition, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

DIRECT = "direct"


@dataclass(slots=True)
class Results:
    """Samples in the order they were taken. Measures are named with their unit: `req_s_1k`, `half_p99_us`."""

    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    missing: dict[str, dict[str, str]] = field(default_factory=dict)
    errors: dict[str, list[str]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def add(self, system: str, **measures: float) -> None:
        for measure, value in measures.items():
            self.samples.setdefault(system, {}).setdefault(measure, []).append(value)

    def leave_out(self, system: str, measure: str, reason: str) -> None:
        """Record why a measure of a system (or `*`, all of them) has no sample."""
        self.missing.setdefault(system, {})[measure] = reason

    def value(self, system: str, measure: str) -> float | None:
        """The median of the samples; None when there is none."""
        values = self.samples.get(system, {}).get(measure)
        return median(values) if values else None

    def why_missing(self, system: str, measure: str) -> str:
        reasons = self.missing.get(system, {})
        if "*" in reasons:
            return f"there is no {system} here"
        return f"{system}: {reasons.get(measure, 'not part of this run')}"

    def added(self, system: str, measure: str, *, over: str | None = None) -> float | None:
        """The median over the repetitions of what `measure` has more than the direct path had.

        That is the direct path's own sample of the same measure and repetition, or, where the direct path was loaded
        once more as this system had just been, the system's measure `over`.
        """
        values = self.samples.get(system, {}).get(measure, [])
        bases = self.samples.get(system, {}).get(over, []) if over else self.samples.get(DIRECT, {}).get(measure, [])
        if not values or len(values) != len(bases):
            return None
        return median(value - base for value, base in zip(values, bases, strict=True))

    def ratio(self, system: str, other: str, measure: str) -> float | None:
        """The median of `system` over the median of `other`."""
        value, base = self.value(system, measure), self.value(other, measure)
        return value / base if value is not None and base else None

    def spread(self, system: str, measure: str) -> float | None:
        """(largest - smallest) / median of the samples: how far the repetitions disagree."""
        values = self.samples.get(system, {}).get(measure, [])
        middle = median(values) if values else 0.0
        return (max(values) - min(values)) / middle if middle else None
