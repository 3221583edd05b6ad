"""Traces as files: anybody's column names, every format, and the line that is wrong."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from proxy.advisor.trace import App
from proxy.advisor.trace_columns import TimeUnit
from proxy.advisor.trace_files import read_trace
from proxy.advisor.trace_table import TraceUnreadable
from proxy.policy.model import Endpoint, Priority, Traffic
from pyarrow import parquet

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,374,44
2023-11-16 18:17:04.0319600,396,109
2023-11-16 18:17:05.9799600,879,55
"""
MOONCAKE = """{"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [0, 1, 2]}
{"timestamp": 3000, "input_length": 2560, "output_length": 7, "hash_ids": [0, 1, 2, 3, 4]}
"""


def written(tmp_path: Path, text: str, name: str = "trace") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def refused(path: Path) -> str:
    with pytest.raises(TraceUnreadable) as caught:
        read_trace(path)
    return str(caught.value).replace(f"{path.parent}/", "")


def test_azures_csv(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, AZURE))
    assert trace.arrival_s == pytest.approx([0.0, 0.052, 2.0])
    assert trace.input_tokens.tolist() == [374, 396, 879]
    assert trace.output_tokens.tolist() == [44, 109, 55]
    assert trace.began_at_s == pytest.approx(1700158623.97996)
    assert trace.apps == (App(name="all"),)
    assert trace.span_s == pytest.approx(3.0)  # one more of the gaps, which are 1 s on average


def test_times_with_a_zone(tmp_path: Path) -> None:
    text = "timestamp,prompt_tokens,completion_tokens\n"
    text += "2024-05-10 02:00:00.009930+02:00,1,1\n2024-05-10T00:00:01.00993Z,2,1\n"
    trace = read_trace(written(tmp_path, text))
    assert trace.arrival_s == pytest.approx([0.0, 1.0])
    assert trace.began_at_s == pytest.approx(1715299200.00993)


def test_mooncakes_lines_are_in_milliseconds_with_blocks_of_512(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, MOONCAKE))
    assert trace.arrival_s.tolist() == [0.0, 3.0]
    assert trace.prefix == ((0, 1, 2), (0, 1, 2, 3, 4))
    assert trace.block_tokens == 512
    assert trace.began_at_s is None


def test_what_is_told_by_the_content_can_be_stated(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, MOONCAKE), unit=TimeUnit.S, tokens_per_block=16)
    assert trace.arrival_s.tolist() == [0.0, 3000.0]
    assert trace.block_tokens == 16


def test_burstgpts_csv(tmp_path: Path) -> None:
    text = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    text += "5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,1087,0,1087,API log\n"
    trace = read_trace(written(tmp_path, text))
    assert trace.arrival_s.tolist() == [0.0, 40.0]
    assert trace.output_tokens.tolist() == [18, 1]
    assert trace.apps == (App(name="ChatGPT", model="ChatGPT"), App(name="GPT-4", model="GPT-4"))


def test_vidurs_csv(tmp_path: Path) -> None:
    text = "arrived_at,num_prefill_tokens,num_decode_tokens\n0.25,100,20\n1.75,200,30\n"
    trace = read_trace(written(tmp_path, text))
    assert trace.arrival_s.tolist() == [0.0, 1.5]
    assert trace.input_tokens.tolist() == [100, 200]


def test_blocks_in_a_csv_and_rows_without_any(tmp_path: Path) -> None:
    text = 'arrival_s,input_tokens,output_tokens,hash_ids\n0,32,1,"[7, 8]"\n1,16,1,\n2,8,1,9\n3,32,1,"[7,8]"\n'
    trace = read_trace(written(tmp_path, text))
    assert trace.prefix == ((7, 8), (), (9,), (7, 8))
    assert trace.block_tokens == 16


@pytest.mark.parametrize(
    ("name", "stamps", "after_s", "began_at_s"),
    [
        ("arrived_at", ("5.0", "7.5"), 2.5, None),
        ("timestamp", ("5", "7"), 2.0, None),
        ("arrival_ms", ("5", "7"), 0.002, None),
        ("timestamp", ("1700000000", "1700000002"), 2.0, 1.7e9),
        ("timestamp", ("1700000000000", "1700000002000"), 2.0, 1.7e9),
        ("time", ("1700000000000000000", "1700000002000000000"), 2.0, 1.7e9),
    ],
)
def test_units_of_time(
    tmp_path: Path, name: str, stamps: tuple[str, str], after_s: float, began_at_s: float | None
) -> None:
    trace = read_trace(written(tmp_path, f"{name},input_len,output_len\n{stamps[0]},1,1\n{stamps[1]},1,1\n"))
    assert trace.arrival_s[1] == pytest.approx(after_s)
    assert trace.began_at_s == (None if began_at_s is None else pytest.approx(began_at_s))


def test_parquet_out_of_order_with_apps(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    columns = {
        "app": pyarrow.array([10, 9, 10], pyarrow.int16()),
        "arrival_s": [4.0, 0.0, 2.0],
        "input_tokens": pyarrow.array([1, 2, 3], pyarrow.int32()),
        "output_tokens": pyarrow.array([0, 5, 6], pyarrow.int32()),
    }
    parquet.write_table(pyarrow.table(columns), path)
    trace = read_trace(path)
    assert trace.arrival_s.tolist() == [0.0, 2.0, 4.0]
    assert trace.input_tokens.tolist() == [2, 3, 1]
    assert trace.output_tokens.tolist() == [5, 6, 1]  # an engine computes no less than one
    assert [app.name for app in trace.apps] == ["9", "10"]
    assert trace.app.tolist() == [0, 1, 1]


def test_gzip_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "trace.20261122T101010123Z"
    path.write_bytes(gzip.compress(AZURE.encode()))
    assert len(read_trace(path)) == 3
    path.write_bytes(path.read_bytes()[:-20])
    assert refused(path) == "the archive `trace.20261122T101010123Z` is cut off or damaged"


def test_words_make_apps(tmp_path: Path) -> None:
    first = {"arrival_s": 0, "input_tokens": 1, "output_tokens": 1, "tenant": "bank", "key": "ci", "model": "m"}
    rest = {"endpoint": "messages", "stream": False, "traffic": "offline", "tags": ["b", "a"], "priority": "high"}
    second = {"arrival_s": 1, "input_tokens": 1, "output_tokens": 1, "tenant": "shop", "priority": "0"}
    lines = "".join(json.dumps(line) + "\n" for line in (first | rest, second, first | rest))
    trace = read_trace(written(tmp_path, lines))
    bank = App(
        name="bank ci m",
        tenant="bank",
        key="bank/ci",
        model="m",
        endpoint=Endpoint.MESSAGES,
        stream=False,
        traffic=Traffic.OFFLINE,
        tags=frozenset({"a", "b"}),
        priority=Priority.HIGH,
    )
    assert trace.apps == (bank, App(name="shop", tenant="shop", priority=Priority.LOW))
    assert trace.app.tolist() == [0, 0, 1]


def test_json_lines_whose_types_change_are_read_all_the_same(tmp_path: Path) -> None:
    text = '{"ts": 1, "input_tokens": 2, "output_tokens": 3}\n\n{"ts": "2.5", "input_tokens": 4, "output_tokens": 5}\n'
    assert read_trace(written(tmp_path, text)).arrival_s == pytest.approx([0.0, 1.5])


HEAD = "arrival_s,input_tokens,output_tokens"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "`trace` is empty (hint: a trace has a line of names and a line for each request)"),
        (" \n", "`trace` is empty (hint: a trace has a line of names and a line for each request)"),
        (f"{HEAD}\n", "`trace` has no rows"),
        (f"{HEAD}\n0,1,2\n\n1,x,3\n", "trace:4: `input_tokens` is no whole number: `x`"),
        (f"{HEAD}\n0,1,2\n1,1.5,3\n", "trace:3: `input_tokens` is no whole number: `1.5`"),
        (f"{HEAD}\n0,1,2\n1,1,-3\n", "trace:3: `output_tokens` is -3, below 0"),
        (f"{HEAD}\n0,1,2\n1,,3\n", "trace:3: `input_tokens` is missing"),
        (f"{HEAD}\n0,1,2\nnoon,1,3\n", "trace:3: `arrival_s` is no time: `noon`"),
        (f"{HEAD}\n0,1,2\ninf,1,3\n", "trace:3: `arrival_s` is no finite number"),
        (f"{HEAD}\n0,1,2\n\n1,3\n", "trace:4: expected 3 columns, got 2: 1,3"),
        (
            f"{HEAD},priority\n0,1,2,low\n1,1,3,top\n",
            "trace:3: `priority` is not known: `top` (hint: low, normal or high)",
        ),
        (f"{HEAD},stream\n0,1,2,maybe\n", "trace:2: `stream` is not known: `maybe` (hint: true or false)"),
        ('{"arrival_s": 1}\n{"arrival_s": 2\n', "trace:2: no JSON object: Input data was truncated"),
        (f"{HEAD}\n0,99999999999999999999,2\n", "trace:2: `input_tokens` is no whole number: `1e+20`"),
        (f"{HEAD},hash_ids\n0,1,2,7 a\n", "trace:2: `hash_ids` is no list of numbers: `7 a`"),
        ('[{"arrival_s": 1}]', "`trace` is one JSON array (hint: write an object a line"),
        ("PAR1 and nothing", "`trace` is no Parquet that can be read"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    assert refused(written(tmp_path, text)).startswith(message)


def test_a_missing_column_is_named_with_its_aliases(tmp_path: Path) -> None:
    said = refused(written(tmp_path, "arrival_s,input_tokens\n1,2\n"))
    assert "has no column `output_tokens`: it has `arrival_s`, `input_tokens` (hint: also known are" in said


def test_a_bad_cell_of_a_parquet_is_named_by_its_row(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    table = pyarrow.table({"arrival_s": [0.0, 1.0], "input_tokens": [1, None], "output_tokens": [1, 1]})
    parquet.write_table(table, path)
    assert refused(path) == "trace, row 1: `input_tokens` is missing"


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    assert refused(tmp_path / "none") == "cannot read `none`: no such file or directory"
    assert "is a directory" in refused(tmp_path)


@pytest.mark.parametrize("mark", [";", "\t"])
def test_other_delimiters(tmp_path: Path, mark: str) -> None:
    text = f"{HEAD}\n0,1,2\n1,3,4\n".replace(",", mark)
    assert read_trace(written(tmp_path, text)).input_tokens.tolist() == [1, 3]


def test_words_that_are_no_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_bytes(f"{HEAD},app\n0,1,2,a\n1,1,2,".encode() + b"\xff\n")
    assert refused(path) == "trace:3: `app` is no UTF-8: `b'\\xff'`"


def test_simultaneous_requests_keep_their_order(tmp_path: Path) -> None:
    rows = "".join(f"{at},{number},1\n" for at in (1, 0) for number in range(50))
    trace = read_trace(written(tmp_path, f"{HEAD}\n{rows}"))
    assert trace.input_tokens.tolist() == [max(number, 1) for number in range(50)] * 2
    assert np.all(np.diff(trace.arrival_s) >= 0)
