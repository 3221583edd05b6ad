"""A replay's report as a page with plots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape

from proxy.advisor import replay_findings as say
from proxy.advisor import replay_plots as plots
from proxy.advisor.figures import HOURS_A_MONTH, LEVELS, Figures, Part
from proxy.advisor.page import page, section
from proxy.advisor.replay_report import GOAL, Report, replicas_words
from proxy.advisor.replay_tables import (
    MOST_ROWS,
    PART_COLUMNS,
    parts_of,
    quantile_rows,
    side_by_side,
    summary_columns,
)

_STYLE = """
p.verdict { font-size: 1.1rem; }
table { font-size: .8rem; } th, td { padding: .2rem .45rem; } td { white-space: nowrap; } th { vertical-align: bottom; }
"""


def to_html(report: Report) -> str:
    """The whole page."""
    traffic = report.traffic
    title = f"Replay of {traffic.name}"
    verdicts = "".join(_paragraph(_named(report, policy), "verdict") for policy in report.policies)
    about = (
        f"{traffic.requests:,} requests in {say.span(traffic.span_s)} ({traffic.per_s:.3g} a second), of "
        f"{traffic.input_tokens:,.0f} input and {traffic.output_tokens:,.0f} output tokens on average. "
        "Simulated: the router that serves, against engines and providers that are modelled."
    )
    body = [f"<h1>{escape(title)}</h1>", _paragraph(about, "note"), verdicts, _summary(report), *_sections(report)]
    return page(title, "\n".join([*body, _reading(report)]), _STYLE)


def _named(report: Report, policy: str) -> str:
    verdict = say.verdict(report, policy)
    return verdict if len(report.policies) == 1 else f"{policy}: {verdict}"


def _sections(report: Report) -> Iterable[str]:
    runs = [report.best(policy) for policy in report.policies]
    yield section(say.cost_heading(report), plots.cost_by_replicas(report), _COST_NOTE)
    if report.baselines:
        yield section(say.baselines_heading(report), plots.against_others(report), _BASELINE_NOTE)
    yield section(
        _each(report, runs, lambda run: say.attainment_heading(report, run)), plots.attainment_by_minute(report)
    )
    yield section(_each(report, runs, say.wait_heading), plots.waits(report), _WAIT_NOTE, _quantiles(report, runs))
    yield section(_each(report, runs, say.lanes_heading), plots.lanes_over_time(report))
    yield section(_each(report, runs, say.spill_heading), plots.shared_dollars(report))
    if len(runs) == 2:
        head = [f"{run.policy}, {replicas_words(run.replicas)}" for run in runs]
        table = _table(["", *head, "difference"], map(_row, side_by_side(report)))
        yield f"<section><h2>The best of each, side by side</h2>{table}</section>"
    for run in runs:
        yield _breakdown(report, run)


def _each(report: Report, runs: Sequence[Figures], sentence: Callable[[Figures], str]) -> str:
    """One sentence, or one for each policy."""
    if len(runs) == 1:
        return sentence(runs[0])
    return "\n".join(f"{run.policy}: {_lowered(sentence(run))}" for run in runs)


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def _quantiles(report: Report, runs: Sequence[Figures]) -> str:
    """The quantiles of each policy's best run."""
    named = len(report.policies) > 1
    rows = [(f"{run.policy}, {kind}" if named else kind, *waits) for run in runs for kind, *waits in quantile_rows(run)]
    return _table(["", *(f"P{level}" for level in LEVELS)], map(_row, rows))


def _summary(report: Report) -> str:
    """A line for each run, the best ones in bold."""
    best = [report.best(policy) for policy in report.policies]
    rows = [(run, any(run is one for one in best)) for run in (*report.runs, *report.baselines)]
    columns = summary_columns(report)
    lines = [_row([cell(run) for _, cell in columns], "best" if bold else "") for run, bold in rows]
    return _table([name for name, _ in columns], lines)


def _breakdown(report: Report, run: Figures) -> str:
    """Tables by route, tenant, app and target."""
    tables = [_parts_table(run, kind, parts) for kind, parts in parts_of(run).items()]
    title = "Who was served how" if len(report.policies) == 1 else f"Who was served how: {run.policy}"
    return f"<section><h2>{escape(title)}</h2>{''.join(tables)}{_reasons(run)}</section>"


def _parts_table(run: Figures, kind: str, parts: tuple[Part, ...]) -> str:
    shown = sorted(parts, key=lambda part: -part.requests)[:MOST_ROWS]
    lines = [
        _row([part.name, *(cell(part) for _, cell in PART_COLUMNS), say.usd(run.usd_per_hour(part.shared_nano_usd))])
        for part in shown
    ]
    more = f"{len(parts) - len(shown):,} more are in the JSON" if len(parts) > len(shown) else ""
    return _table([kind, *(name for name, _ in PART_COLUMNS), "shared $/h"], lines) + (
        _paragraph(more, "note") if more else ""
    )


def _reasons(run: Figures) -> str:
    told = list(run.reasons.items())[:MOST_ROWS]
    lines = [_row([reason or "-", f"{count:,}", say.percent(count / run.whole.requests)]) for reason, count in told]
    return _table(["why a request went where it went", "requests", "share"], lines) if told else ""


def _table(head: Sequence[str], lines: Iterable[str]) -> str:
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f'<div class="wide"><table><thead><tr>{names}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _row(cells: Sequence[str], kind: str = "") -> str:
    marked = f' class="{kind}"' if kind else ""
    return f"<tr{marked}>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _paragraph(text: str, kind: str) -> str:
    return f'<p class="{kind}">{escape(text)}</p>'


_COST_NOTE = (
    "Each bar is a replay with so many replicas, with its cost and the share of requests served in time; red and "
    "crossed (✗) where that is below the goal. The least possible is a bound for somebody who knew all requests in "
    "advance and could cut them into pieces: no real rule reaches it."
)
_BASELINE_NOTE = (
    "Other rules on the same traffic, simulated alike, each with the setting and the replicas that suit this traffic "
    "best in hindsight; red and crossed (✗) where they miss the goal."
)
_WAIT_NOTE = (
    "Where a line is at 1 %, one request in a hundred took longer. The time per output token is the mean of an answer, "
    "over at least 32 tokens."
)


def _reading(report: Report) -> str:
    pairs = "; ".join(say.objective_words(*pair) for pair in report.runs[0].objectives)
    sentences = (
        f"In time means within the objectives of the request's route ({pairs}); a refused request was not.",
        f"The goal is {say.percent(GOAL)} of all requests; bold and in the plots is the cheapest run that reaches it.",
        f"A month has {HOURS_A_MONTH} hours. GPUs are paid by the hour, used or not, while the trace was watched.",
        *report.assumptions,
    )
    return f"<footer><p>{escape(' '.join(sentences))}</p></footer>"
