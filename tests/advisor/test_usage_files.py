"""Usage files: told from traces by a number of requests, any order and names, and what is wrong with a line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from proxy.advisor.trace_table import TraceUnreadable
from proxy.advisor.usage_files import is_usage, read_usage

ROWS = "window_s,app,requests,input_tokens,output_tokens\n0,5,61,73700,5988\n600,5,10,9000,100\n600,chat,2,20,30\n"


def written(tmp_path: Path, text: str, name: str = "usage.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["usage.csv", "usage.csv.gz"])
def test_rows_by_app(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, ROWS, name)
    assert is_usage(path)
    found = read_usage(path)
    assert [app.name for app in found.apps] == ["5", "chat"]
    assert found.app.tolist() == [0, 0, 1]
    assert found.requests.tolist() == [61, 10, 2]
    assert found.output_tokens.tolist() == [5988, 100, 30]
    assert (found.row_s, found.span_s, found.began_at_s) == (600.0, 1200.0, None)


def test_a_trace_is_no_usage(tmp_path: Path) -> None:
    assert not is_usage(written(tmp_path, "arrival_s,input_tokens,output_tokens\n0,1,2\n"))


def test_json_lines_with_times_of_the_calendar(tmp_path: Path) -> None:
    lines = [
        f'{{"start": "2026-11-16T00:{minute:02}:00Z", "requests": 3, "prompt_tokens": 9, "completion_tokens": 4}}\n'
        for minute in (0, 10, 20)
    ]
    found = read_usage(written(tmp_path, "".join(lines), "usage.jsonl"))
    assert found.began_at_s == 1_794_787_200.0
    assert found.row_s == 600.0
    assert found.input_tokens.sum() == 27


def test_a_quiet_end_belongs_to_the_day(tmp_path: Path) -> None:
    rows = "".join(f"{start},1,10,10\n" for start in range(0, 86_400 - 1200, 600))
    assert read_usage(written(tmp_path, "start,requests,input_tokens,output_tokens\n" + rows)).span_s == 86_400.0


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("window_s,requests,output_tokens\n0,1,1\n600,1,1\n", "usage needs a column `input_tokens`"),
        ("window_s,requests,input_tokens,output_tokens\n0,1,1,1\n", "a single time"),
        ("window_s,requests,input_tokens,output_tokens\n0,1,1,1\n600,-2,1,1\n", "usage.csv:3: `requests` is -2"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, wrong: str) -> None:
    with pytest.raises(TraceUnreadable) as error:
        read_usage(written(tmp_path, text))
    assert wrong in str(error.value)
