"""`spillway advise`: from files, policies and a proxy's admin port to a verdict, or to what is missing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest
from proxy.advisor.commit import Terms
from proxy.cli import advise_options as read
from proxy.cli.advise_seen import observed, seen
from proxy.cli.command import app
from proxy.meters.bill import bill
from proxy.meters.demand_rows import AppHour, DemandHour, Watched
from proxy.meters.usage_rows import Complete, Failed
from proxy.meters.work_buckets import counts_of
from pyarrow import parquet, table
from tests.advisor.weeks import MONDAY_S, days
from tests.meters.test_bill import usage
from typer.testing import CliRunner, Result

WEEK = (1.0, 1.1, 0.9, 1.0, 1.0, 0.6, 0.5)
POLICY = """
version: 1
targets:
  llama:
    lane: dedicated
    engine: vllm
    url: http://vllm:8000/v1
    region: eu-west-1
    model: meta-llama/Llama-3.3-70B-Instruct
    gpus: {type: H100, count: 2, usd_per_hour: 2.99}
    engine_profile: 70b-fp8-2xh100
  small:
    lane: dedicated
    engine: vllm
    url: http://small:8000/v1
    region: eu-west-1
    model: meta-llama/Llama-3.3-70B-Instruct
    gpus: {type: H200, count: 1, usd_per_hour: 3.5}
    engine_profile: 70b-fp8-1xh200
  bedrock:
    lane: shared
    provider: bedrock
    model: some-llama
    api_key: ${A_KEY_THAT_NOBODY_HAS}
    region: eu-west-1
    price: {input: 0.72, output: 0.72}
  cheap:
    lane: shared
    provider: deepinfra
    model: meta-llama/Llama-3.3-70B-Instruct
    api_key: ${A_KEY_THAT_NOBODY_HAS}
    region: us
    price: {input: 0.23, output: 0.40}
models:
  llama-70b: [llama, small, bedrock, cheap]
routes:
  - {name: gdpr, match: {tags: [gdpr]}, require: {region: eu-*}}
  - {name: default, want: {ttft_p99: 2s, itl_p99: 50ms}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy, a week of requests that fill one replica, and the same week by the ten minutes."""
    path = tmp_path_factory.mktemp("advise")
    (path / "policy.yaml").write_text(POLICY)
    trace = days(0.8, WEEK)
    columns = {"arrival_s": trace.arrival_s, "input_tokens": trace.input_tokens, "output_tokens": trace.output_tokens}
    parquet.write_table(table(columns), path / "week.parquet")
    rows: dict[int, list[int]] = {}
    for at, into, out in zip(trace.arrival_s, trace.input_tokens, trace.output_tokens, strict=True):
        row = rows.setdefault(int(at // 600) * 600, [0, 0, 0])
        row[0], row[1], row[2] = row[0] + 1, row[1] + int(into), row[2] + int(out)
    lines = [f"{start},all,{','.join(map(str, row))}" for start, row in rows.items()]
    (path / "usage.csv").write_text("\n".join(["window_s,app,requests,input_tokens,output_tokens", *lines]) + "\n")
    return path


def ran(*options: object) -> Result:
    return CliRunner().invoke(app, ["advise", *map(str, options)])


def told(*options: object) -> list[dict]:  # type: ignore[type-arg]
    result = ran(*options, "--json")
    assert result.exit_code == 0, result.output
    found: list[dict] = json.loads(result.stdout)["advices"]  # type: ignore[type-arg]
    return found


def test_buy_one_with_the_dear_provider_and_nothing_with_the_cheap_one(folder: Path) -> None:
    given = ("--trace", folder / "week.parquet", "--policy", folder / "policy.yaml")
    (dear,) = told(*given, "--allow", "bedrock")
    assert (dear["verdict"], dear["recommended"], dear["target"]) == ("buy", 1, "llama")
    assert [one["name"] for one in dear["alternatives"]] == ["small"]
    assert [(one["quantity"], one["best"]) for one in dear["providers"]] == [("`cheap` allowed too", 0)]
    (cheap,) = told(*given)
    assert (cheap["verdict"], cheap["recommended"]) == ("do not buy", 0)
    assert cheap["shared"] == {"cheap": 1.0}


def test_usage_by_the_minutes_comes_to_the_same(folder: Path) -> None:
    given = ("--policy", folder / "policy.yaml", "--allow", "bedrock")
    (fine,) = told("--trace", folder / "week.parquet", *given)
    (drawn,) = told("--trace", folder / "usage.csv", "--sample", folder / "week.parquet", *given)
    for one, other in zip(fine["replicas"][:4], drawn["replicas"][:4], strict=True):
        assert other["usd_per_hour"] == pytest.approx(one["usd_per_hour"], rel=0.02)
    assert "as in the sample" in drawn["demand"]["drawn"]
    (guessed,) = told("--trace", folder / "usage.csv", *given)
    assert guessed["verdict"] == "buy"
    assert any("other people" in one for one in guessed["cautions"])


def test_without_a_policy_gpus_and_prices_are_enough(folder: Path) -> None:
    given = ("--trace", folder / "week.parquet", "--gpu", "70b-fp8-2xh100=5.98")
    (found,) = told(*given, "--price", "bedrock=0.72/0.72", "--gpu", "70b-fp8-1xh200=3.50")
    assert (found["verdict"], found["recommended"]) == ("buy", 1)
    assert [one["name"] for one in found["alternatives"]] == ["70b-fp8-1xh200"]


def test_the_table_says_it_in_words(folder: Path) -> None:
    result = ran(
        *("--trace", folder / "week.parquet", "--policy", folder / "policy.yaml", "--allow", "bedrock"),
        *("--growth", "10%/month", "--steps", "20x80ms", "--begins", "2026-11-16", "--commit", "40%/12 months"),
    )
    assert result.exit_code == 0
    assert "Buy one replica of `llama`: $" in result.stdout
    for part in ("What would flip it", "What if", "Other replicas", "Growth", "Commitment", "Reasons to go dedicated"):
        assert f"\n{part}\n" in result.stdout
    assert "20 calls a task spend 1.60 s on the network" in result.stdout
    assert "12 months at -40%" in result.stdout


def test_give_back_what_one_has_too_many_of(folder: Path) -> None:
    given = ("--trace", folder / "week.parquet", "--policy", folder / "policy.yaml", "--allow", "bedrock")
    (found,) = told(*given, "--have", "3")
    assert (found["verdict"], found["recommended"]) == ("give back", 1)


def test_the_page_is_written(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "advice.html"
    given = ("--trace", folder / "week.parquet", "--policy", folder / "policy.yaml", "--target", "small")
    assert ran(*given, "--html", page).exit_code == 0
    assert page.read_text().count("<svg") == 5
    assert ran(*given, "--html", tmp_path / "no" / "such.html").exit_code == 1


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ((), "give either `--trace FILE` or `--from-meters`"),
        (("--trace", "{week}", "--from-meters"), "give either"),
        (("--trace", "{week}"), "there is neither a policy nor a GPU"),
        (("--trace", "{week}x", "--policy", "{policy}"), "cannot read"),
        (("--trace", "{week}", "--policy", "{policy}x"), "no such file or folder"),
        (("--trace", "{week}", "--policy", "{policy}", "--target", "lama"), "no dedicated target `lama` (hint:"),
        (("--trace", "{week}", "--policy", "{policy}", "--allow", "bedrok"), "nobody named `bedrok` has a price here"),
        (("--trace", "{week}", "--policy", "{policy}", "--allow", "deepinfra/no-such"), "no such model"),
        (("--trace", "{week}", "--gpu", "abacus=1"), "unknown engine profile `abacus`"),
        (("--trace", "{week}", "--gpu", "70b-fp8-2xh100=5.98"), "neither a policy nor a price"),
        (("--trace", "{week}", "--gpu", "70b-fp8-2xh100=x"), "no price in dollars"),
        (("--trace", "{week}", "--policy", "{policy}", "--growth", "lots"), "`--growth lots` is no rate"),
        (("--trace", "{week}", "--policy", "{policy}", "--commit", "100%/month"), "is no commitment"),
        (("--trace", "{week}", "--policy", "{policy}", "--replicas", "6..2"), "is no range"),
        (("--trace", "{week}", "--policy", "{policy}", "--begins", "soon"), "is no date"),
        (("--trace", "{week}", "--policy", "{policy}", "--ttft", "2"), "`--ttft 2`"),
        (("--trace", "{week}", "--policy", "{policy}", "--steps", "many"), "is no number of calls"),
    ],
)
def test_what_is_missing_is_said(folder: Path, options: tuple[str, ...], wrong: str) -> None:
    paths = {"week": folder / "week.parquet", "policy": folder / "policy.yaml"}
    result = ran(*(one.format(**paths) for one in options))
    assert result.exit_code == 1
    assert wrong in result.stderr


def test_the_price_list_can_be_asked_for_a_provider_that_the_policy_lacks(folder: Path) -> None:
    given = ("--trace", folder / "week.parquet", "--policy", folder / "policy.yaml")
    (found,) = told(*given, "--allow", "bedrock,deepinfra/meta-llama/Llama-3.3-70B-Instruct-Turbo")
    assert found["verdict"] == "do not buy"
    assert list(found["shared"]) == ["deepinfra/meta-llama/Llama-3.3-70B-Instruct-Turbo"]


def test_a_price_that_is_stated_allows_whom_it_names(folder: Path) -> None:
    given = ("--trace", folder / "week.parquet", "--policy", folder / "policy.yaml", "--allow", "bedrock")
    (of_the_policy,) = told(*given, "--price", "cheap=0.20/0.30")
    assert of_the_policy["shared"] == {"cheap": 1.0}
    (of_a_provider,) = told(*given, "--price", "deepinfra=0.20/0.30")
    assert of_a_provider["replicas"] == of_the_policy["replicas"]
    (elsewhere,) = told(*given, "--price", "elsewhere=0.20/0.30")
    assert (elsewhere["verdict"], elsewhere["shared"]) == ("do not buy", {"elsewhere": 1.0})
    (dear,) = told(*given, "--price", "elsewhere=9/9")
    assert (dear["verdict"], dear["shared"]) == ("buy", {"bedrock": 1.0})


def test_a_price_makes_nothing_lawful_that_the_policy_forbids(folder: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.replace("default, want", "default, require: {region: eu-*}, want"))
    given = ("--trace", folder / "week.parquet", "--policy", policy)
    (found,) = told(*given, "--price", "cheap=0.01/0.01")
    assert found["shared"] == {"bedrock": 1.0}


def test_a_target_without_a_price_is_asked_for_one(folder: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    unpriced = POLICY.replace("    price: {input: 0.72, output: 0.72}\n", "").replace(", cheap]", "]")
    policy.write_text(unpriced)
    given = ("--trace", folder / "week.parquet", "--policy", policy)
    assert "nobody knows what `bedrock` costs (hint:" in ran(*given).stderr
    (found,) = told(*given, "--price", "bedrock=0.72/0.72")
    assert (found["verdict"], found["recommended"]) == ("buy", 1)


def test_options_as_they_are_written() -> None:
    assert read.growth("10%/month") == pytest.approx(0.1)
    assert read.growth("-20%/year") == pytest.approx(0.8 ** (1 / 12) - 1)
    assert read.terms("30%/1 month") == Terms(discount=0.3, months=1)
    assert read.terms("45%/year") == Terms(discount=0.45, months=12)
    assert read.replicas("0..6") == (0, 6)
    assert read.replicas("4") == (0, 4)
    assert read.names(["a,b", "c"]) == ("a", "b", "c")
    assert read.begins("2026-11-16") == MONDAY_S


class _Admin(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = self.server.answers.get(self.path.partition("?")[0])  # type: ignore[attr-defined]
        self.send_response(200 if body is not None else 404)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def admin() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), _Admin)
    server.answers = {}  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def lines(*rows: object) -> bytes:
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


def metered(hours: int) -> bytes:
    """A replica's worth of work in every second of some hours."""
    first = int(MONDAY_S)
    rows: list[object] = [Watched(from_s=first, to_s=first + hours * 3600)]
    for hour in range(hours):
        bins = tuple(counts_of([1_800_000] * 1200, 3000))
        rows.append(DemandHour(start_s=first + hour * 3600, target="llama", model="", bin_ms=3000, bins=bins))
        sums = {"requests": 3500, "input_tokens": 20_000_000, "output_tokens": 2_000_000}
        sums |= {"attended_tokens": 60_000_000_000, "read_tokens": 13_000_000_000}
        rows.append(
            AppHour(
                start_s=first + hour * 3600,
                target="llama", model="", tenant="", key="", asked="llama-70b", sums=sums,
            )
        )  # fmt: skip
    return lines(*rows, Complete(rows=len(rows) - 1))


def url(admin: HTTPServer) -> str:
    return f"http://127.0.0.1:{admin.server_address[1]}"


def test_advice_from_what_a_proxy_metered(admin: HTTPServer, folder: Path) -> None:
    shared = msgspec.structs.replace(usage("api", attempts=5000, ttft_ms=2_500_000, ttft_count=5000), target="bedrock")
    ledger = lines(shared, Complete(rows=1))
    admin.answers = {"/admin/demand": metered(24 * 7), "/admin/meters/rows": ledger}  # type: ignore[attr-defined]
    given = ("--from-meters", "--admin-url", url(admin), "--policy", folder / "policy.yaml", "--allow", "bedrock")
    (found,) = told(*given)
    assert (found["have"], found["verdict"]) == (1, "keep")
    assert found["demand"]["hours"] == 24 * 7
    assert found["demand"]["drawn"] == ""
    special = next(one for one in found["reasons"] if one["why"] == "specialization")
    assert special["holds"] is False
    (none,) = told(*given, "--have", "0")
    assert (none["verdict"], none["recommended"]) == ("buy", 1)


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (lines(Watched(from_s=0, to_s=0)), "was cut off"),
        (lines(Watched(from_s=0, to_s=0), Complete(rows=1)), "was cut off"),
        (lines(Failed(message="store gone")), "could not read all of its meters: store gone"),
        (b"hello\n", "does not answer like a Spillway"),
        (lines(Watched(from_s=0, to_s=0), Complete(rows=0)), "nothing was asked for in that time"),
        (None, "answers 404"),
    ],
)
def test_meters_that_cannot_be_read(admin: HTTPServer, folder: Path, body: bytes | None, wrong: str) -> None:
    admin.answers = {"/admin/meters/rows": lines(Complete(rows=0))}  # type: ignore[attr-defined]
    if body is not None:
        admin.answers["/admin/demand"] = body  # type: ignore[attr-defined]
    result = ran("--from-meters", "--admin-url", url(admin), "--policy", folder / "policy.yaml")
    assert result.exit_code == 1
    assert wrong in result.stderr


def test_no_proxy_there_is_said(folder: Path) -> None:
    result = ran("--from-meters", "--admin-url", "http://127.0.0.1:1", "--policy", folder / "policy.yaml")
    assert result.exit_code == 1
    assert "no proxy answers at" in result.stderr


def test_what_shared_targets_were_seen_to_do(tmp_path: Path) -> None:
    rows = [
        usage("api", attempts=2000, failures=20, ttft_ms=900_000, ttft_count=1000),
        usage("api", attempts=2000, failures=0, ttft_ms=3_000_000, ttft_count=1000),
        usage(attempts=5),
    ]
    rows[1] = msgspec.structs.replace(rows[1], start_s=rows[0].start_s + 3600)
    found = seen(bill(iter(rows)))
    assert list(found) == ["api"]
    assert (found["api"].attempts, found["api"].uptime) == (4000, 0.995)
    assert sorted(found["api"].hourly_ttft_s) == [0.9, 3.0]
    quantiles = tmp_path / "seen.json"
    quantiles.write_text('{"targets": {"api": {"ttft_p99": 1.5}, "other": {"ttft_p99": 0.5}}}')
    both = {one.target: one.ttft_p99_s for one in observed(str(quantiles), found)}
    assert both == {"api": 1.5, "other": 0.5}
