"""`spillway status`, against a proxy's admin port, a store, and the files of a stopped one."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from proxy.cli.status import status
from proxy.cli.status_latency import seconds
from proxy.cli.status_standing import journal_line
from proxy.engines import LatencyReport, ReplicaReport, TargetReport
from proxy.live.view import FoundView
from proxy.meters.counters import Counters
from proxy.meters.embedded import EmbeddedStore
from proxy.meters.gpu_hours import GpuClock, GpuTotals
from proxy.meters.ledger import Ledger
from proxy.meters.report import report
from proxy.meters.standing import BudgetStanding, JournalStanding, RateStanding, Standing
from proxy.meters.store import Store
from proxy.meters.summary import Summary
from proxy.meters.sync import Sync
from proxy.policy.model import Enforce, Per
from proxy.policy.status import PolicyStatus
from proxy.routing.plan import Cause
from proxy.signals.distribution import Spread
from proxy.signals.end_to_end import Gap, Seen, Told, compare
from tests.cli.live_views import target, view
from tests.meters.examples import LLAMA, ROUTE, TOGETHER, facts, outcome
from tests.meters.test_report import MODELS, ONE_HOUR, TARGETS
from typer.testing import CliRunner, Result


def budget(name: str, per: Per, limit: float, spent: float, held: float, **more: Any) -> BudgetStanding:
    """A standing, in dollars."""
    nano = [round(usd * 10**9) for usd in (limit, spent, held)]
    return BudgetStanding(
        name=name,
        per=per,
        limit_nano_usd=nano[0],
        spent_nano_usd=nano[1],
        held_nano_usd=nano[2],
        free_nano_usd=nano[0] - nano[1] - nano[2],
        **{"enforce": Enforce.HARD, **more},
    )


APP = typer.Typer()
APP.command()(status)

POLICY = PolicyStatus(revision="9896461ab188", loaded_at=1795355160.0, generation=3)
EARLIER = Summary(as_of_s=0.0, tallies={}, gpus={"llama-eu": GpuTotals()})
LATEST = Summary(
    as_of_s=60.0,
    tallies={
        ("llama-70b", "llama-eu"): {"requests": 8, "attempts": 8, "input_tokens": 4_000_000, "output_tokens": 10**6},
        ("llama-70b", "together"): {"attempts": 2, "spilled": 2, "input_tokens": 10**6, "nano_usd": 880_000_000},
    },
    gpus={"llama-eu": ONE_HOUR},
)


STANDING = Standing(
    budgets=(
        budget("growth-spill", Per.DAY, 500, 412.5, 31.25, alert_percent=80, resets_in_s=4 * 3600 + 125),
        budget("growth-spill", Per.MONTH, 5000, 2100, 31.25, resets_in_s=8 * 86400 + 3600 * 5),
        budget("evals", Per.TOTAL, 50, 50, 0, alert_percent=100),
        budget("support", Per.HOUR, 20, 21.5, 0, enforce=Enforce.SOFT, alert_percent=100, resets_in_s=55.5),
        budget("new", Per.WEEK, 100, 0.000123, 0, enforce=Enforce.SHADOW, known=False, resets_in_s=3000),
    ),
    rates=(
        RateStanding(scope="tenant bank", rate="rpm", limit=600, used=12, leased=37.5),
        RateStanding(scope="key bank/ci", rate="tpm", limit=2_000_000, used=1_900_000, shadow=True, known=False),
    ),
    journal=JournalStanding(path="data/journal/7f3a", size_bytes=12_345, max_bytes=64 << 20, waiting=3),
)


def answer(standing: Standing = STANDING, document: bytes | None = None) -> bytes:
    """What `/admin/meters` answers."""
    document = document or report(LATEST, EARLIER, TARGETS, MODELS).to_json()
    return document[:-1] + b"," + msgspec.json.encode(standing)[1:]


class _Admin(BaseHTTPRequestHandler):
    """An admin port that answers with the server's `answer`, and with its `policy`."""

    def do_GET(self) -> None:
        code, body = {
            "/admin/meters": self.server.answer,  # type: ignore[attr-defined]
            "/admin/policy": (200, msgspec.json.encode(self.server.policy)),  # type: ignore[attr-defined]
            "/admin/latency": self.server.latency,  # type: ignore[attr-defined]
            "/admin/live": self.server.live,  # type: ignore[attr-defined]
        }.get(self.path, (404, b"{}"))
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def admin() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), _Admin)
    server.answer = (200, answer())  # type: ignore[attr-defined]
    server.policy = POLICY  # type: ignore[attr-defined]
    server.latency = (404, b"{}")  # type: ignore[attr-defined]
    server.live = (404, b"{}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(APP, arguments)


def url(server: HTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


def row(output: str, first: str) -> list[str]:
    """The cells of the one line that begins with `first`."""
    (found,) = [line for line in output.splitlines() if line.strip().startswith(f"{first} ")]
    return found.split()


def filled(data_dir: Path) -> EmbeddedStore:
    """A running embedded store in which a proxy has counted something."""
    embedded = EmbeddedStore(data_dir)
    embedded.start()

    async def count() -> None:
        ledger = Ledger()
        counters = Counters("one", ledger)
        sync = Sync(Store(embedded.url, timeout_s=30.0), counters, [GpuClock(lambda: [LLAMA], dict)])
        ledger.settle(facts(), ROUTE, outcome(LLAMA))
        ledger.settle(facts(), ROUTE, outcome(TOGETHER, cause=Cause.SPILLOVER))
        await sync.aclose()

    asyncio.run(count())
    return embedded


def test_a_running_proxy_shows_both_kinds_of_money(admin: HTTPServer) -> None:
    result = invoke("--admin-url", url(admin))
    assert result.exit_code == 0, result.output
    recent, total = result.output.split("since the beginning")
    assert "last 60 s" in recent
    assert row(total, "llama-eu") == [
        "llama-eu",
        "8",
        "0",
        "4M",
        "1M",
        "$23.92",
        "$4.78",
        "$0.880",
        "8",
        "75%",
    ]
    assert row(total, "together") == ["together", "2", "2", "0", "1M", "0", "$0.880", "$0.880"]
    assert "25.0% of requests spilled; $23.92 for GPUs, $0.880 to providers" in total


def test_json_is_the_proxy_s_own_report_and_its_policy(admin: HTTPServer) -> None:
    result = invoke("--admin-url", url(admin), "--json")
    found = json.loads(result.stdout)
    assert found.pop("policy") == msgspec.to_builtins(POLICY)
    assert found.pop("budgets") == [msgspec.to_builtins(one) for one in STANDING.budgets]
    assert {name: found.pop(name) for name in ("rates", "journal", "degraded")} == {
        "rates": [msgspec.to_builtins(one) for one in STANDING.rates],
        "journal": msgspec.to_builtins(STANDING.journal),
        "degraded": {},
    }
    assert found == json.loads(report(LATEST, EARLIER, TARGETS, MODELS).to_json())


def test_what_is_wrong_with_pods_is_told(admin: HTTPServer) -> None:
    found = FoundView(up=False, age_s=75.0, unready=2, trouble="the service account may not `list` it")
    shown = view(targets=(target(found=found), target("small", found=FoundView(up=True, age_s=1.0)), target("fixed")))
    admin.live = (200, msgspec.json.encode(shown))  # type: ignore[attr-defined]
    output = invoke("--admin-url", url(admin)).output
    assert "llama-eu: 2 not ready; the service account may not `list` it, confirmed 75 s ago" in output
    assert "small:" not in output
    pods = json.loads(invoke("--admin-url", url(admin), "--json").stdout)["pods"]
    assert pods == {
        "llama-eu": msgspec.to_builtins(found),
        "small": {**msgspec.to_builtins(FoundView(up=True, age_s=1.0))},
    }


def test_the_policy_that_is_served_is_named(admin: HTTPServer) -> None:
    output = invoke("--admin-url", url(admin)).output
    assert "policy 9896461ab188, generation 3, since 2026-11-22 13:46:00 UTC" in output
    assert "not served" not in output


def test_text_that_was_refused_is_shown_with_its_places(admin: HTTPServer) -> None:
    problems = tuple(f"policy.yaml:{line}:5: unknown key `[lan]` in `targets.gpu`{'.' * 120}" for line in range(25))
    admin.policy = POLICY.refused("0123456789ab", 1795355200.0, problems)  # type: ignore[attr-defined]
    output = invoke("--admin-url", url(admin)).output
    assert "policy 9896461ab188, generation 3" in output
    assert "text 0123456789ab is not served, as of 2026-11-22 13:46:40 UTC:" in output
    assert [line for line in problems if f"  {line}\n" in output] == list(problems[:20])
    assert "and 5 more" in output


def test_a_policy_that_is_gone_has_no_revision(admin: HTTPServer) -> None:
    admin.policy = POLICY.refused("", 0.0, ("policy.yaml: cannot be read",))  # type: ignore[attr-defined]
    assert "what is on the disk is not served" in invoke("--admin-url", url(admin)).output


def test_a_stale_report_says_so(admin: HTTPServer) -> None:
    stale = report(LATEST, None, TARGETS, MODELS, connected=False, lag_s=42.0)
    admin.answer = (200, stale.to_json())  # type: ignore[attr-defined]
    assert "the store has been away for 42 s" in invoke("--admin-url", url(admin)).output


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((503, b"{}"), "its store is away"),
        ((503, b"<html>"), "does not answer like a Spillway"),
        ((200, b"<html>"), "does not answer like a Spillway"),
        ((404, b"{}"), "is that the admin port of a Spillway?"),
    ],
)
def test_what_is_no_report_is_explained(admin: HTTPServer, answer: tuple[int, bytes], told: str) -> None:
    admin.answer = answer  # type: ignore[attr-defined]
    result = invoke("--admin-url", url(admin))
    assert result.exit_code == 1
    assert told in result.stderr


def test_what_budgets_have_left_is_told_and_what_is_nearest_its_end_first(admin: HTTPServer) -> None:
    output = invoke("--admin-url", url(admin)).output
    shown = re.findall(r"^ (?:support|evals|growth|new)\b.*$", output, re.MULTILINE)
    rows = [re.split(r"\s{2,}", line.strip()) for line in shown]
    assert rows == [
        ["support", "$20/hour", "$21.50", "$0.00", "-$1.50", "108%", "55 s", "exhausted (soft)"],
        ["evals", "$50/total", "$50.00", "$0.00", "$0.00", "100%", "never", "exhausted"],
        ["growth-spill", "$500/day", "$412.50", "$31.25", "$56.25", "82%", "4 h 2 min", "alert 80%"],
        ["growth-spill", "$5,000/month", "$2,100.00", "$31.25", "$2,868.75", "42%", "8 d 5 h", "open"],
        ["new", "$100/week", "$0.000123", "$0.00", "$100.00", "0%", "50 min", "unknown (shadow)"],
    ]


def test_rates_and_the_journal_are_told(admin: HTTPServer) -> None:
    output = invoke("--admin-url", url(admin)).output
    rates = [re.split(r"\s{2,}", line.strip()) for line in output.splitlines() if "bank" in line]
    assert rates == [
        ["key bank/ci", "2,000,000 tpm", "1,900,000", "95%", "shadow unknown"],
        ["tenant bank", "600 rpm", "12", "2%", "38"],
    ]
    assert "journal data/journal/7f3a: 12.1 KiB of 64 MiB, 3 counts wait for the store\n" in output


def test_a_budget_for_each_of_many_tenants_is_cut_short(admin: HTTPServer) -> None:
    many = Standing(budgets=tuple(budget(f"each/{n:03}", Per.DAY, 10, n / 10, 0) for n in range(99)))
    admin.answer = (200, answer(many))  # type: ignore[attr-defined]
    output = invoke("--admin-url", url(admin)).output
    assert re.findall(r"each/(\d+)", output) == [f"{n:03}" for n in range(98, 78, -1)]
    assert "and 79 more budgets, less used (`--json` has all)" in output


def test_without_a_store_what_is_known_of_budgets_is_told_and_what_is_degraded(admin: HTTPServer) -> None:
    trouble = msgspec.structs.replace(STANDING, degraded={"meters": "the store is out of reach; counting [in] memory"})
    admin.answer = (503, answer(trouble, b'{"error":{}}'))  # type: ignore[attr-defined]
    result = invoke("--admin-url", url(admin))
    assert result.exit_code == 1
    assert "its store is away" in result.stderr
    assert "growth-spill" in result.stdout
    assert "degraded: meters: the store is out of reach; counting [in] memory\n" in result.stdout
    told = invoke("--admin-url", url(admin), "--json")
    assert (told.exit_code, json.loads(told.stdout)["degraded"]) == (1, trouble.degraded)


@pytest.mark.parametrize(
    ("journal", "said"),
    [
        (JournalStanding(path="j", size_bytes=10, max_bytes=1 << 30), "journal j: 10 B of 1 GiB, 0 counts wait"),
        (JournalStanding(path="j", size_bytes=0, max_bytes=1, refused=1234), "wait for the store, 1,234 notes refused"),
    ],
)
def test_a_journal_in_a_sentence(journal: JournalStanding, said: str) -> None:
    assert said in journal_line(journal)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--admin-url", "http://127.0.0.1:1"], "start one with `spillway serve`"),
        (["--admin-url", "file:///etc/passwd"], "is no URL"),
        (["--redis-url", "redis://127.0.0.1:1"], "no connection to the store"),
        (["--redis-url", "http://x"], "hint: `redis://host:6379/0`"),
        (["--redis-url", "redis://x", "--data-dir", "y"], "give one of them"),
    ],
)
def test_nothing_there_comes_with_a_hint(arguments: list[str], told: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert told in result.stderr
    assert "Traceback" not in result.output


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    result = invoke("--data-dir", str(tmp_path))
    assert (result.exit_code, "no store in" in result.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_a_store_is_read_directly_whether_its_proxy_runs_or_not(tmp_path: Path) -> None:
    embedded = filled(tmp_path)
    try:
        by_url, by_folder = invoke("--redis-url", embedded.url), invoke("--data-dir", str(tmp_path))
    finally:
        embedded.stop()
    stopped = invoke("--data-dir", str(tmp_path))
    for result in (by_url, by_folder, stopped):
        assert result.exit_code == 0, result.output
        assert row(result.output, "together")[1:5] == ["1", "1", "0", "100"]
        assert row(result.output, "llama-eu")[1:5] == ["1", "0", "100", "50"]
    assert not (tmp_path / "store" / "valkey.sock").exists()


def spread(mean_s: float, p99_s: float, samples: int = 348) -> Spread:
    return Spread(mean_s=mean_s, p50_s=mean_s / 2, p99_s=p99_s, samples=samples)


QUEUEING = compare(
    Told(ttft=spread(1.8, 4.0), queue=spread(1.2, 3.0), e2e=spread(9.0, 30.0)),
    Seen(ttft=spread(1.92, 4.21), e2e=spread(9.5, 41.26), overhead=spread(0.0004, 0.001)),
)
LATENCY = LatencyReport(
    window_s=300.0,
    targets=(
        TargetReport(
            target="llama-eu",
            engine="vllm",
            region="eu-west-1",
            told=Told(ttft=spread(1.8, 4.0), queue=spread(1.2, 3.0), e2e=spread(9.0, 30.0)),
            seen=Seen(ttft=spread(1.92, 4.21), e2e=spread(9.5, 41.26), overhead=spread(0.0004, 0.001)),
            gap=QUEUEING,
            replicas=(ReplicaReport(replica=0, url="http://gpu:8000/v1", trouble="http://gpu:8000/metrics: gone"),),
        ),
        TargetReport(target="idle", engine="vllm", region="us", told=Told(), seen=Seen(), gap=Gap(hint="nothing")),
    ),
)


def test_where_the_time_goes(admin: HTTPServer) -> None:
    admin.latency = (200, msgspec.json.encode(LATENCY))  # type: ignore[attr-defined]
    shown = invoke("--admin-url", url(admin))
    lines = [line.rstrip() for line in shown.output.splitlines() if line.strip()]
    at = lines.index("where the time goes, last 5 min")
    assert [" ".join(line.split()) for line in (lines[at + 1], lines[at + 3], lines[at + 4])] == [
        "target to answers p50 p99 mean proxy queue engine outside engine p50 engine p99",
        "llama-eu first token 348 960 ms 4.21 s 1.92 s 0.4 ms 1.2 s 600 ms 120 ms 900 ms 4 s",
        "end 348 4.75 s 41.3 s 9.5 s 0.4 ms 1.2 s 7.8 s 500 ms 4.5 s 30 s",
    ]
    assert "llama-eu: the engine queues 1.2 s of 1.9 s: add room, or lower `max_in_flight`" in lines
    assert "llama-eu: http://gpu:8000/metrics: gone" in lines
    assert not any(line.startswith("idle") for line in lines)


def test_where_the_time_goes_as_data(admin: HTTPServer) -> None:
    admin.latency = (200, msgspec.json.encode(LATENCY))  # type: ignore[attr-defined]
    told = json.loads(invoke("--admin-url", url(admin), "--json").output)["latency"]
    assert told["targets"][0]["gap"]["ttft"]["queue_s"] == 1.2
    admin.latency = (404, b"{}")  # type: ignore[attr-defined]
    assert "latency" not in json.loads(invoke("--admin-url", url(admin), "--json").output)


@pytest.mark.parametrize(
    ("duration_s", "shown"),
    [
        (None, "-"),
        (0.0, "0.0 ms"),
        (0.00994, "9.9 ms"),
        (0.00996, "10 ms"),
        (0.5, "500 ms"),
        (1.0, "1 s"),
        (41.26, "41.3 s"),
        (999.4, "999 s"),
        (1234.5, "1234 s"),
    ],
)
def test_durations(duration_s: float | None, shown: str) -> None:
    assert seconds(duration_s) == shown
