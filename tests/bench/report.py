"""What a benchmark prints, and what it writes as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tests.bench.bars import Verdict
from tests.bench.results import DIRECT, Results

MISSING = "-"


def tables(results: Results, names: Sequence[str]) -> str:
    """Every system in three tables: requests, streams, and what it takes to have it running."""
    measured = [name for name in names if "*" not in results.missing.get(name, {})]
    sections = [_requests(results, measured), _streams(results, measured), _footprint(results, measured)]
    if any(results.value(name, "req_kinstr_user") for name in measured):
        sections.append(_instructions(results, measured))
    parts = [f"{name}: {results.notes[name]}" for name in measured if name in results.notes]
    parts += [f"{name}: not measured: {results.missing[name]['*']}" for name in names if name not in measured]
    parts += [
        f"{name}: {measure.removesuffix('_us').removesuffix('_mb')} not measured: {why}"
        for name in measured
        for measure, why in results.missing.get(name, {}).items()
    ]
    parts += [f"{name}: {what}" for name, whats in results.errors.items() for what in whats]
    return "\n\n".join([*sections, "\n".join(parts)]).rstrip()


def bars(verdicts: Sequence[Verdict]) -> str:
    """One line a bar: what was promised, what was seen."""
    rows = [[each.bar, each.limit, _number(each.observed, 3), each.word] for each in verdicts]
    lines = _table("bars", ["", "limit", "seen", ""], rows).split("\n")
    reasons = ["", "", *(f"  {each.reason}" if each.reason else "" for each in verdicts)]
    return "\n".join(line + reason for line, reason in zip(lines, reasons, strict=True))


def document(results: Results, verdicts: Sequence[Verdict], about: Mapping[str, Any]) -> dict[str, Any]:
    """The whole run as JSON: every sample, not only the medians."""
    systems = {
        name: {
            "samples": dict(results.samples.get(name, {})),
            "medians": {measure: results.value(name, measure) for measure in results.samples.get(name, {})},
            "missing": results.missing.get(name, {}),
            "errors": results.errors.get(name, []),
        }
        for name in {*results.samples, *results.missing}
    }
    return {"about": dict(about), "systems": systems, "bars": [asdict(each) | {"word": each.word} for each in verdicts]}


def _requests(results: Results, names: Sequence[str]) -> str:
    head = ["", "1 KB req/s", "spread", "8 KB", "100 KB", "c=64 p50/p99", "200/s added", "half load added", "waited"]
    rows = [
        [
            name,
            _number(results.value(name, "req_s_1k"), 0),
            _percent(results.spread(name, "req_s_1k")),
            _number(results.value(name, "req_s_8k"), 0),
            _number(results.value(name, "req_s_100k"), 0),
            _pair_ms(results.value(name, "closed_p50_us"), results.value(name, "closed_p99_us")),
            _added_ms(results, name, "fixed_{}_us"),
            _added_ms(results, name, "half_{}_us", "half_direct_{}_us"),
            _percent(results.value(name, "waited_share")),
        ]
        for name in names
    ]
    return _table(
        "non-streaming (64 connections; added: p50/p99 in ms over the direct path; waited: its time without its core)",
        head,
        rows,
    )


def _streams(results: Results, names: Sequence[str]) -> str:
    head = ["", "events/s", "added delay", "first token added", "core", "CPU us/event", "spread"]
    rows = [
        [
            name,
            _number(results.value(name, "events_s"), 0),
            _added_ms(results, name, "transit_{}_us"),
            _added_ms(results, name, "ttft_{}_us"),
            _number(results.value(name, "core_share"), 2),
            _number(results.value(name, "event_cpu_us"), 2),
            _percent(results.spread(name, "event_cpu_us")),
        ]
        for name in names
    ]
    return _table("streaming (100 events/s a stream; p50/p99 in ms; core: the share of it in use)", head, rows)


def _footprint(results: Results, names: Sequence[str]) -> str:
    head = ["", "start s", "idle MB PSS (RSS)", "1,000 streams MB PSS (RSS)"]
    rows = [
        [
            name,
            _number(results.value(name, "start_s"), 2),
            _with_rss(results, name, "idle_{}_mb"),
            _with_rss(results, name, "streams_{}_mb"),
        ]
        for name in names
        if name != DIRECT
    ]
    return _table("to have it running", head, rows)


def _instructions(results: Results, names: Sequence[str]) -> str:
    rows = [
        [
            name,
            *(
                "+".join(_number(results.value(name, f"{unit}_kinstr_{space}"), 1) for space in ("user", "kernel"))
                for unit in ("req", "event")
            ),
        ]
        for name in names
        if name != DIRECT
    ]
    return _table("thousands of instructions, user + kernel", ["", "a request", "an event"], rows)


def _with_rss(results: Results, name: str, measure: str) -> str:
    pss, rss = (results.value(name, measure.format(kind)) for kind in ("pss", "rss"))
    return f"{_number(pss, 1)} ({_number(rss, 1)})"


def _added_ms(results: Results, name: str, measure: str, over: str = "") -> str:
    if name == DIRECT:
        own = _pair_ms(*(results.value(name, measure.format(q)) for q in ("p50", "p99")))
        return own if own == MISSING else f"(is {own})"
    return _pair_ms(*(results.added(name, measure.format(q), over=over.format(q) or None) for q in ("p50", "p99")))


def _pair_ms(p50_us: float | None, p99_us: float | None) -> str:
    if p50_us is None or p99_us is None:
        return MISSING
    return "/".join(f"{us / 1000:.2f}" if us < 100_000 else f"{us / 1000:.0f}" for us in (p50_us, p99_us))


def _number(value: float | None, digits: int) -> str:
    return MISSING if value is None else f"{value:,.{digits}f}"


def _percent(share: float | None) -> str:
    return MISSING if share is None else f"{share:.0%}"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text: the first to the left, the others to the right."""
    first, *widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [title]
    for name, *cells in (head, *rows):
        aligned = [f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)]
        lines.append("  ".join(["", f"{name:<{first}}", *aligned]).rstrip())
    return "\n".join(lines)
