"""The speed that the project promises, as bars that a benchmark's figures pass or fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.results import DIRECT, Results

SUBJECT = "spillway"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One bar and what became of it. `observed` is None when it was not measured, and then `reason` says why."""

    bar: str
    limit: str
    observed: float | None
    passed: bool
    reason: str = ""

    @property
    def word(self) -> str:
        return "not measured" if self.observed is None else "PASS" if self.passed else "FAIL"


@dataclass(frozen=True, slots=True)
class Bar:
    """A limit on a figure that is read from the results; `needs` are the (system, measure) pairs behind it."""

    name: str
    read: Callable[[Results], float | None]
    limit: float
    at_least: bool
    unit: str
    needs: tuple[tuple[str, str], ...]

    def judge(self, results: Results) -> Verdict:
        limit = f"{'>=' if self.at_least else '<='} {self.limit:g}{self.unit}"
        observed = self.read(results)
        if observed is None:
            gap = next((need for need in self.needs if results.value(*need) is None), self.needs[0])
            return Verdict(self.name, limit, None, False, results.why_missing(*gap))
        passed = observed >= self.limit if self.at_least else observed <= self.limit
        if SUBJECT in results.errors:
            return Verdict(self.name, limit, observed, False, f"wrong answers: {results.errors[SUBJECT][0]}")
        return Verdict(self.name, limit, observed, passed)


def _requests_against(peer: str, limit: float) -> Bar:
    return Bar(
        name=f"1 KB requests/s against {peer}",
        read=lambda results: results.ratio(SUBJECT, peer, "req_s_1k"),
        limit=limit,
        at_least=True,
        unit="x",
        needs=((SUBJECT, "req_s_1k"), (peer, "req_s_1k")),
    )


def _added(name: str, measure: str, limit_us: float, *, over: str | None = None) -> Bar:
    return Bar(
        name=name,
        read=lambda results: _milli(results.added(SUBJECT, measure, over=over)),
        limit=limit_us / 1000,
        at_least=False,
        unit=" ms",
        needs=((SUBJECT, measure), (SUBJECT, over) if over else (DIRECT, measure)),
    )


def _own(name: str, measure: str, limit: float, unit: str, *, at_least: bool = False) -> Bar:
    return Bar(
        name=name,
        read=lambda results: results.value(SUBJECT, measure),
        limit=limit,
        at_least=at_least,
        unit=unit,
        needs=((SUBJECT, measure),),
    )


def _milli(value: float | None) -> float | None:
    return None if value is None else value / 1000


BARS = (
    _requests_against("nginx", 0.22),
    _requests_against("vllm-router", 0.9),
    _requests_against("litellm", 75),
    _added("added p50 at half load", "half_p50_us", 200, over="half_direct_p50_us"),
    _added("added p99 at half load", "half_p99_us", 500, over="half_direct_p99_us"),
    _own("streamed events/s of 40,000 offered", "events_s", 39_600, "", at_least=True),
    _added("p99 added delay of an event at 40,000/s", "transit_p99_us", 1000),
    Bar(
        name="CPU per event against nginx",
        read=lambda results: results.ratio(SUBJECT, "nginx", "event_cpu_us"),
        limit=1.7,
        at_least=False,
        unit="x",
        needs=((SUBJECT, "event_cpu_us"), ("nginx", "event_cpu_us")),
    ),
    _own("memory of 1,000 open streams", "streams_pss_mb", 30, " MB"),
    _own("start to first answer", "start_s", 1, " s"),
    _own("idle memory", "idle_pss_mb", 80, " MB"),
)


def verdicts(results: Results) -> list[Verdict]:
    """Every bar, judged, in the order of the issue that set them."""
    return [bar.judge(results) for bar in BARS]
