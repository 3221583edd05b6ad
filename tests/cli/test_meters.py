"""`spillway meters`: sums and exports of the ledger, from a proxy's admin port."""

from __future__ import annotations

import csv
import io
import json
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from proxy.cli.meters import app
from proxy.cli.meters_export import ROWS_AT_ONCE, write_parquet
from proxy.cli.meters_report import Dimension, as_table
from proxy.cli.meters_report import report as sums_by
from proxy.cli.meters_time import point_in_time
from proxy.meters.bill import bill
from proxy.meters.focus import COLUMNS, focus_row
from proxy.meters.usage_rows import AnyRow, Complete, Failed, GpuHour, TargetRow, UsageRow
from proxy.policy.model import Lane
from pyarrow import parquet
from rich.console import Console
from tests.meters.test_bill import HOUR, gpu, usage
from typer.testing import CliRunner, Result

TARGETS = [
    TargetRow(name="gpu", lane=Lane.DEDICATED, model="llama", region="eu-west-1", gpu_type="H100"),
    TargetRow(name="api", lane=Lane.SHARED, model="llama-turbo", region="us", provider="together_ai"),
]
LEDGER: list[UsageRow | GpuHour] = [
    usage("api", requests=0, attempts=2, spilled=2, input_tokens=10, output_tokens=5, nano_usd=1_234_567_891),
    usage(requests=6, attempts=6, input_tokens=60, output_tokens=25, work_us=250, estimated_tokens=17),
    msgspec.structs.replace(usage(requests=2, attempts=2, input_tokens=1, work_us=250), tenant="shop", key=""),
    gpu(8 * 10**9 + 1, busy=0.5),
    gpu(8 * 10**9, start_s=HOUR + 86_400),
]
PAID = Decimal("17.234567892")


class _Admin(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_response(server.status)  # type: ignore[attr-defined]
        self.end_headers()
        self.wfile.write(server.body)  # type: ignore[attr-defined]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def lines(*rows: AnyRow) -> bytes:
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


@pytest.fixture
def admin() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), _Admin)
    server.asked, server.status = [], 200  # type: ignore[attr-defined]
    server.body = lines(*TARGETS, *LEDGER, Complete(rows=len(LEDGER)))  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def invoke(server: HTTPServer, *arguments: str) -> Result:
    url = f"http://127.0.0.1:{server.server_address[1]}"
    return CliRunner().invoke(app, [*arguments, "--admin-url", url])


def asked(server: HTTPServer) -> dict[str, str]:
    (path,) = server.asked  # type: ignore[attr-defined]
    return {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}


# --- reports


def rows(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines() if line.strip() and "─" not in line]


def test_a_report_tells_both_kinds_of_money_and_who_used_them(admin: HTTPServer) -> None:
    result = invoke(admin, "--by", "tenant")
    assert result.exit_code == 0, result.output
    head, idle, bank, shop, whole, *notes = rows(result.output)
    assert head == ["tenant", "requests", "spilled", "in", "out", "shared", "GPUs", "idle", "total", "$/M"]
    assert idle == ["(idle)", "0", "0", "0", "0", "$0.00", "$0.00", "$12.00", "$12.00", "-"]
    assert bank[:7] == ["bank", "6", "2", "70", "30", "$1.23", "$2.00"]
    assert shop[:7] == ["shop", "2", "0", "1", "0", "$0.00", "$2.00"]
    assert whole[0] == "all"
    assert whole[-2] == "$17.23"
    assert " ".join(notes[0]) == "16.83% of the tokens are estimates: no upstream confirmed them"


def test_a_narrow_terminal_cuts_no_figure_off(admin: HTTPServer) -> None:
    by = (Dimension.TENANT, Dimension.TARGET, Dimension.DAY)
    text = io.StringIO()
    as_table(sums_by(bill(LEDGER), by), by, Console(file=text, width=40))
    assert "…" not in text.getvalue()
    assert "$82,304.53" in text.getvalue()


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("target", ["api", "gpu"]),
        ("lane", ["dedicated", "shared"]),
        ("day", ["2026-11-22", "2026-11-23"]),
        ("month", ["2026-11"]),
        ("hour", ["2026-11-22T15:00Z", "2026-11-23T15:00Z"]),
        ("model", ["(idle)", "m"]),
        ("route", ["(idle)", "default"]),
        ("key", ["(idle)", "-", "bank/ci"]),
    ],
)
def test_whatever_it_is_broken_down_by_the_sum_is_the_same(admin: HTTPServer, by: str, groups: list[str]) -> None:
    found = json.loads(invoke(admin, "report", "--by", by, "--format", "json").stdout)
    assert [row[by] for row in found] == groups
    assert sum(Decimal(row["total_usd"]) for row in found) == PAID
    assert sum(row["input_tokens"] for row in found) == 71


def test_several_dimensions_at_once_as_csv(admin: HTTPServer) -> None:
    result = invoke(admin, "report", "--by", "day, target,day", "--format", "csv")
    found = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(row["day"], row["target"], row["total_usd"]) for row in found] == [
        ("2026-11-22", "api", "1.234567891"),
        ("2026-11-22", "gpu", "8.000000001"),
        ("2026-11-23", "gpu", "8.000000000"),
    ]


def test_what_has_no_known_price_is_said_not_to_be_in_it(admin: HTTPServer) -> None:
    unpriced = usage("api", attempts=3, unpriced_attempts=3, input_tokens=5)
    admin.body = lines(unpriced, Complete(rows=1))  # type: ignore[attr-defined]
    result = invoke(admin)
    assert "3 attempts have no known price" in result.stdout
    assert rows(result.stdout)[1][-1] == "-"


def test_a_time_in_which_nothing_was_counted(admin: HTTPServer) -> None:
    admin.body = lines(Complete(rows=0))  # type: ignore[attr-defined]
    assert invoke(admin, "--from", "yesterday", "--to", "today").stdout == "nothing was counted in that time\n"
    span = asked(admin)
    assert (float(span["to"]) - float(span["from"]), span["grain"]) == (86_400.0, "hour")


# --- exports


def test_csv_has_a_line_a_row_and_sums_to_the_bill(admin: HTTPServer) -> None:
    result = invoke(admin, "export", "--from", "2026-11-01", "--to", "2026-12", "--grain", "minute")
    assert result.exit_code == 0, result.output
    found = list(csv.DictReader(io.StringIO(result.stdout)))
    assert list(found[0]) == list(COLUMNS)
    assert len(found) == 6
    for column in ("BilledCost", "EffectiveCost"):
        assert sum(Decimal(row[column]) for row in found) == PAID
    first = found[0]
    assert (first["BilledCost"], first["ChargePeriodStart"]) == ("1.234567891", "2026-11-22T15:00:00Z")
    assert (first["ProviderName"], first["RegionId"], first["x_Tenant"]) == ("together_ai", "us", "bank")
    assert found[3]["SubAccountId"] == ""
    november = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
    assert asked(admin) == {"from": str(november), "to": str(november + 30 * 86_400.0), "grain": "minute"}


def test_json_lines_keep_every_digit(admin: HTTPServer, tmp_path: Path) -> None:
    out = tmp_path / "bill.jsonl"
    result = invoke(admin, "export", "--from", "-7d", "--format", "jsonl", "-o", str(out))
    assert (result.stdout, result.stderr) == ("", f"6 rows in {out}\n")
    text = out.read_text()
    assert '"BilledCost":1.234567891,' in text
    found = [json.loads(line, parse_float=Decimal) for line in text.splitlines()]
    assert sum(row["EffectiveCost"] for row in found) == PAID
    assert found[0]["ChargePeriodEnd"] == "2026-11-22T16:00:00Z"
    assert [path.name for path in tmp_path.iterdir()] == ["bill.jsonl"]


def test_parquet_has_exact_decimals_and_times_in_utc(admin: HTTPServer, tmp_path: Path) -> None:
    out = tmp_path / "bill.parquet"
    result = invoke(admin, "export", "--from", "-7d", "--format", "parquet", "-o", str(out))
    assert result.exit_code == 0, result.output
    table = parquet.read_table(out)
    types = {field.name: str(field.type) for field in table.schema}
    assert (types["BilledCost"], types["ChargePeriodStart"]) == ("decimal128(38, 9)", "timestamp[ms, tz=UTC]")
    assert (types["x_InputTokens"], types["RegionId"]) == ("int64", "string")
    wanted = [focus_row(line, {row.name: row for row in TARGETS}) for line in bill(LEDGER)]
    assert table.to_pylist() == wanted
    assert sum(table.column("BilledCost").to_pylist()) == PAID


def test_a_large_bill_goes_into_several_row_groups(tmp_path: Path) -> None:
    row = focus_row(next(bill([usage("api", nano_usd=9 * 10**18)])), {})
    with (tmp_path / "bill").open("wb") as out:
        assert write_parquet((row for _ in range(ROWS_AT_ONCE + 1)), out) == ROWS_AT_ONCE + 1
    found = parquet.ParquetFile(tmp_path / "bill")
    assert found.num_row_groups == 2
    assert found.read(columns=["BilledCost"]).to_pylist()[-1] == {"BilledCost": Decimal("9000000000.000000000")}


def test_without_pyarrow_the_extra_is_named_and_nothing_written(
    admin: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    out = tmp_path / "bill.parquet"
    result = invoke(admin, "export", "--from", "-7d", "--format", "parquet", "-o", str(out))
    assert result.exit_code == 1
    assert result.stderr == "error: parquet needs pyarrow (hint: pip install 'spillway-proxy[parquet]')\n"
    assert list(tmp_path.iterdir()) == []
    assert admin.asked == []  # type: ignore[attr-defined]


# --- what can go wrong


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (lines(*LEDGER), "the proxy's answer was cut off"),
        (lines(*LEDGER, Complete(rows=9)), "the proxy's answer was cut off"),
        (lines(*LEDGER, Failed(message="no answer")), "could not read all of its meters: no answer"),
        (lines(*LEDGER)[:-5], "does not answer like a Spillway of this release"),
        (b"<html>", "does not answer like a Spillway of this release"),
    ],
)
def test_half_a_ledger_is_never_taken_for_a_whole_one(
    admin: HTTPServer, tmp_path: Path, body: bytes, said: str
) -> None:
    admin.body = body  # type: ignore[attr-defined]
    out = tmp_path / "bill.csv"
    out.write_text("the bill before")
    for arguments in (["export", "--from", "-7d", "-o", str(out)], ["--by", "target"]):
        result = invoke(admin, *arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert said in result.stderr
    assert [path.read_text() for path in tmp_path.iterdir()] == ["the bill before"]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (503, b'{"error": {"message": "the store of the meters is out of reach"}}', "answers 503: the store of the"),
        (404, b"not here", "answers 404: is that the admin port of a Spillway?"),
    ],
)
def test_a_refusal_is_told(admin: HTTPServer, status: int, body: bytes, said: str) -> None:
    admin.status, admin.body = status, body  # type: ignore[attr-defined]
    result = invoke(admin)
    assert (result.exit_code, said in result.stderr) == (1, True)


def test_nobody_there_and_no_url() -> None:
    for url, said in (("http://127.0.0.1:1", "no proxy answers at `http://127.0.0.1:1`"), ("ftp://x", "is no URL")):
        result = CliRunner().invoke(app, ["report", "--admin-url", url])
        assert (result.exit_code, said in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--by", "tenants"], "nothing is counted by `tenants` (hint: did you mean `tenant`?)"),
        (["--from", "soon"], "not a time: `soon` (hint: write `2026-11-22`"),
        (["--from", "today", "--to", "yesterday"], "`--to yesterday` is not after `--from today`"),
        (["export", "--from", "-1h", "-o", "/nowhere/at/all"], "`/nowhere/at/all` cannot be written: no such file"),
    ],
)
def test_what_makes_no_sense_is_said(admin: HTTPServer, arguments: list[str], said: str) -> None:
    result = invoke(admin, *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr


# --- times

NOW = datetime(2026, 11, 22, 18, 30, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("now", NOW),
        ("today", datetime(2026, 11, 22, tzinfo=UTC)),
        ("yesterday", datetime(2026, 11, 21, tzinfo=UTC)),
        ("-24h", datetime(2026, 11, 21, 18, 30, 5, tzinfo=UTC)),
        ("-90m", datetime(2026, 11, 22, 17, 0, 5, tzinfo=UTC)),
        ("-1w", datetime(2026, 11, 15, 18, 30, 5, tzinfo=UTC)),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-22T18:00", datetime(2026, 11, 22, 18, tzinfo=UTC)),
        ("2026-11-22T18:00Z", datetime(2026, 11, 22, 18, tzinfo=UTC)),
        ("2026-11-22T19:00+01:00", datetime(2026, 11, 22, 18, tzinfo=UTC)),
    ],
)
def test_a_point_in_time(text: str, time: datetime) -> None:
    assert point_in_time(text, NOW.timestamp()) == time.timestamp()


@pytest.mark.parametrize("text", ["", "soon", "24h", "-24", "-5y", "2026-13", "2026-02-30", "-999999w", "22.11.2026"])
def test_no_point_in_time(text: str) -> None:
    with pytest.raises(ValueError, match="not a time"):
        point_in_time(text, NOW.timestamp())
