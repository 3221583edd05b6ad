"""`spillway replay`: what a trace would have cost, and how many would have been served in time, under a policy."""

from __future__ import annotations

import sys
from concurrent.futures import BrokenExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from proxy.advisor.replay_report import Report
    from proxy.advisor.trace import Trace
    from proxy.cli.replay_runs import Job

EXTRA = ("numpy", "scipy", "matplotlib", "pyarrow")
PIPE_COLUMNS = 160


def replay(
    trace: Annotated[Path, typer.Argument(help="CSV, JSON lines, Parquet, or Spillway's decision log; may be .gz")],
    policy: Annotated[list[Path], typer.Option(help="Policy file, or a folder of them; a second one is compared")],
    replicas: Annotated[
        str, typer.Option(metavar="0..6|1,2|NAME=2,...", help="Of each dedicated target; default: the policy's own")
    ] = "",
    bound: Annotated[bool, typer.Option("--bound", help="Work out the least that any rule could pay")] = False,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Replay the rules of others too, at their best settings in hindsight")
    ] = False,
    json_file: Annotated[str, typer.Option("--json", metavar="FILE|-", help="Write all of it as data")] = "",
    html_file: Annotated[Path | None, typer.Option("--html", help="Write a page with plots")] = None,
    scale_rate: Annotated[float, typer.Option(help="Replay at so many times the rate")] = 1.0,
    part: Annotated[str, typer.Option("--slice", metavar="10m..40m", help="Replay a part of the trace")] = "",
    model: Annotated[str, typer.Option(help="Whatever the trace says, all requests ask for this model")] = "",
    time_unit: Annotated[str, typer.Option(metavar="s|ms|us|ns", help="Of arrival times, if not to be guessed")] = "",
    block_tokens: Annotated[int | None, typer.Option(min=1, help="Of a prefix block, if not to be guessed")] = None,
    seed: Annotated[int, typer.Option(help="Of the latencies of shared targets")] = 0,
    processes: Annotated[int, typer.Option("--processes", "-j", min=0, help="0: one for each core")] = 0,
) -> None:
    """Replay a trace through the router that serves, against simulated engines and providers. Nothing is sent anywhere.

    Exit status: 0 it was replayed, 2 the question cannot be answered.
    """
    _need_extra()
    from proxy.advisor.trace_table import TraceUnreadable
    from proxy.cli.replay_question import Unanswerable, baseline_jobs, read_jobs, read_requests
    from proxy.cli.replay_runs import run_all

    _need_places(json_file, html_file)
    try:
        jobs = read_jobs(policy, replicas, bound=bound, seed=seed, model=model)
        jobs += baseline_jobs(jobs) if baselines else []
        requests = read_requests(trace, time_unit, block_tokens, part, scale_rate, model)
        _announce(requests, jobs)
        report = run_all(requests, jobs, processes)
    except (TraceUnreadable, Unanswerable) as error:
        _fail(str(error))
    except BrokenExecutor:
        _fail("a process of the replay was killed, perhaps for want of memory (hint: fewer at one time, as `-j 1`)")
    _tell(report, json_file, html_file)


def _need_extra() -> None:
    if missing := [name for name in EXTRA if find_spec(name) is None]:
        _fail(f"replaying needs {', '.join(missing)} (hint: pip install 'spillway-proxy[advisor]')")


def _need_places(json_file: str, html_file: Path | None) -> None:
    """Better said before an hour of replaying than after it."""
    named = [] if json_file in ("", "-") else [Path(json_file)]
    for path in (*named, *([] if html_file is None else [html_file])):
        if path.is_dir():
            _fail(f"`{path}` cannot be written: it is a folder")
        if not path.parent.is_dir():
            _fail(f"`{path}` cannot be written: there is no folder `{path.parent}`")


def _announce(requests: Trace, jobs: list[Job]) -> None:
    from proxy.advisor.replay_findings import span

    rate = len(requests) / requests.span_s
    runs = f"{len(jobs)} replays" if len(jobs) > 1 else "one replay"
    print(f"{len(requests):,} requests over {span(requests.span_s)}, {rate:.3g} a second; {runs}", file=sys.stderr)


def _tell(report: Report, json_file: str, html_file: Path | None) -> None:
    from rich.console import Console

    from proxy.advisor.replay_report import to_json
    from proxy.cli.replay_table import print_report

    if json_file == "-":
        typer.echo(to_json(report))
    else:
        # A pipe has no width of its own.
        console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)
        print_report(report, console)
    if json_file not in ("", "-"):
        _write(Path(json_file), to_json(report) + "\n")
    if html_file is not None:
        from proxy.advisor.replay_html import to_html

        _write(html_file, to_html(report))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        _fail(f"`{path}` cannot be written: {(error.strerror or type(error).__name__).lower()}")
    print(f"wrote {path}", file=sys.stderr)


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(2)
