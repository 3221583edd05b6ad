"""README.md says what the code does: its policies compile, its tables are complete, and each of its commands is run.

The commands themselves are run by tests/e2e/test_readme.py, but for the `make` targets, which .ci/run runs, and for
those that need a cluster, which tests/helm/test_readme.py runs as far as there is none.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from proxy.cases.expect import ASPECTS
from proxy.cases.funds import FundSpec
from proxy.cases.observed import RateSpec, ReadingSpec
from proxy.cases.request import Request
from proxy.cli.command import app
from proxy.cli.status_latency import latency_table
from proxy.cli.status_table import period_table
from proxy.meters.prices import PriceList
from proxy.meters.report import Period
from proxy.policy.compile import compile_policy
from proxy.policy.schema import (
    BudgetSpec,
    GpusSpec,
    MatchSpec,
    PriceSpec,
    RouteSpec,
    RulesSpec,
    SpenderSpec,
    TargetSpec,
    TenantSpec,
)
from proxy.telemetry.metrics import Metrics
from typer.main import get_command

from tests.readme import README, ROOT, Block, block, blocks, names, table

SOURCES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "proxy").rglob("*.py")}
SECTIONS = ["Two commands", "Your first policy", "Point an app at it"]


def test_the_order_is_what_a_newcomer_needs() -> None:
    text = README.read_text(encoding="utf-8")
    sections = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert sections[:3] == SECTIONS
    assert sections[-1] == "Development"
    first_lines = text.split("\n\n")[1].splitlines()
    assert len(first_lines) == 5
    assert text.index("![") < text.index("## Two commands")


def test_its_pictures_and_files_exist() -> None:
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text(encoding="utf-8"))
    assert linked
    assert [path for path in linked if not (ROOT / path).exists()] == []


def test_its_links_within_the_page_lead_somewhere() -> None:
    text = README.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    places = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
    places += re.findall(r'<a id="([^"]+)">', prose)
    assert len(places) == len(set(places))
    assert set(re.findall(r"\]\(#([^)]+)\)", prose)) - set(places) == set()


def test_every_command_is_run_somewhere() -> None:
    ways = ("once", "background", "make", "cluster")
    unmarked = [b.line for b in blocks() if b.is_command and b.notes.get("run") not in ways]
    assert unmarked == []
    assert [b.line for b in blocks() if b.language not in ("sh", "python", "yaml", "json", "http", "text")] == []


def test_the_make_targets_are_run_by_ci() -> None:
    suites = re.findall(r"^([a-z0-9-]+) +\d+m ", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    commands = [
        line.split("#")[0].split() for b in blocks() if b.notes.get("run") == "make" for line in b.text.splitlines()
    ]
    assert commands == [["make", "demo"], ["make", "test"]]
    assert {target for _, target in commands} <= set(suites)


def test_the_first_policy_is_the_file() -> None:
    assert block("file", "policies/default.yaml").text == (ROOT / "policies" / "default.yaml").read_text()


def test_the_first_policy_has_twenty_lines_at_most_beside_comments() -> None:
    lines = [line.strip() for line in block("file", "policies/default.yaml").text.splitlines()]
    assert len([line for line in lines if line and not line.startswith("#")]) <= 20


@pytest.mark.parametrize("of", [b for b in blocks() if b.language == "yaml"], ids=lambda one: f"line {one.line}")
def test_its_policies_compile(of: Block, tmp_path: Path) -> None:
    """A part of one, with the complete policy before it."""
    text = block("policy", "complete").text + of.text if "part" in of.notes else of.text
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    env = dict.fromkeys(re.findall(r"\$\{(\w+)\}", text), "sk-for-this-test")
    assert compile_policy(path, env=env, price_of=PriceList.load().price_of).models


def test_the_flags_of_serve() -> None:
    command = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    given = {option.opts[0]: (option.envvar, option.default) for option in command.params if option.opts[0] != "--help"}
    rows = {names(flag)[0]: (names(env)[0], default) for flag, env, default, _ in table("table: serve") if flag}
    assert {flag: env for flag, (env, _) in rows.items()} == {flag: env for flag, (env, _) in given.items()}
    fixed = {flag: str(default) for flag, (_, default) in given.items() if type(default) is int}
    assert fixed == {flag: names(rows[flag][1])[0] for flag in fixed}


def test_the_environment_variables() -> None:
    read = set(re.findall(r"\bSPILLWAY_[A-Z_]+\b", "".join(SOURCES.values())))
    listed = {name for row in table("table: serve") for name in names(row[1])} | {"SPILLWAY_ADMIN_URL"}
    assert read == listed


def test_the_response_headers() -> None:
    sent = set(re.findall(r'(?<!\.get)\(b"(x-spillway-[a-z-]+)", ', "".join(SOURCES.values())))
    sent |= set(re.findall(r'b"(x-ratelimit-[a-z-]+)"', SOURCES[ROOT / "proxy" / "meters" / "rate_headers.py"]))
    assert sent | {"x-request-id"} == {name for row in table("table: response headers") for name in names(row[0])}


def test_the_error_codes() -> None:
    listed = {name for row in table("table: errors") for name in names(row[1])}
    given = {code for path, text in SOURCES.items() if "simulator" not in path.parts for code in codes(ast.parse(text))}
    assert given - listed == set()
    assert listed - set(re.findall(r'"([a-z_]+)"', "".join(SOURCES.values()))) == set()


def codes(module: ast.Module) -> set[str]:
    """The constants that a module gives as a refusal's code: by keyword, or to one of its own short forms.

    Those take `(status, code, message)` or `(target, code, what)`; the one of `api/request.py` takes the code last.
    """
    given: list[ast.expr] = []
    for call in (node for node in ast.walk(module) if isinstance(node, ast.Call)):
        given += [keyword.value for keyword in call.keywords if keyword.arg == "code"]
        if isinstance(call.func, ast.Name) and call.func.id in ("_refuse", "_refusal", "_own_fault"):
            first = call.args[0]
            place = 2 if isinstance(first, ast.Constant | ast.JoinedStr) and not is_number(first) else 1
            given += call.args[place : place + 1]
    plain = [value for value in given if not isinstance(value, ast.JoinedStr)]
    inner = [node for value in plain for node in ast.walk(value) if isinstance(node, ast.Constant)]
    return {
        node.value for node in inner if isinstance(node.value, str) and re.fullmatch(r"[a-z]+(_[a-z]+)*", node.value)
    }


def is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int)


def test_the_metrics() -> None:
    asked = set(re.findall(r"# TYPE (\w+) ", b"".join(Metrics().exposition()).decode()))
    asked |= {
        f"spillway_{name}"
        for name in re.findall(r'(?:gauge|per_replica|of_work|per_budget)\("(\w+)"', "".join(SOURCES.values()))
    }
    asked |= {f"spillway_{name}_total" for name in re.findall(r'yield count\("(\w+)"', "".join(SOURCES.values()))}
    assert sorted(asked) == sorted(name for row in table("table: metrics") for name in names(row[0]))


def test_the_attributes_of_spans() -> None:
    said = set(re.findall(r'"(spillway\.[a-z_.]+)"', SOURCES[ROOT / "proxy" / "telemetry" / "traces_attributes.py"]))
    assert said == {name for row in table("table: spans") for name in names(row[0])}


@pytest.mark.parametrize(
    ("section", "spec"),
    [
        ("targets", TargetSpec),
        ("gpus", GpusSpec),
        ("price", PriceSpec),
        ("tenants", TenantSpec),
        ("routes", RouteSpec),
        ("budgets", BudgetSpec),
    ],
)
def test_the_keys_of_a_policy(section: str, spec: type) -> None:
    assert is_dataclass(spec)
    rows = table(f"keys: {section}")
    assert {name for row in rows for name in names(row[0])} == {field.name for field in fields(spec)}


def test_the_keys_of_a_match() -> None:
    (text,) = [row[1] for row in table("keys: routes") if names(row[0]) == ["match"]]
    assert {field.name for field in fields(MatchSpec)} <= set(names(text))
    (text,) = [row[1] for row in table("keys: budgets") if names(row[0]) == ["match"]]
    assert {field.name for field in fields(SpenderSpec)} <= set(names(text))


def test_the_keys_of_rules() -> None:
    listed = {name for row in table("keys: rules") for name in names(row[0])}
    assert listed | {"mode"} == {field.name for field in fields(RulesSpec)}


def test_the_tests_of_the_rules_exist() -> None:
    rows = table("table: rules")
    listed = [name for row in rows for cell in row[1:] for name in re.findall(r"`([^`]+)`", cell)]
    command = (
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/e2e/test_rules.py",
    )
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    collected = [line.partition("::")[2] for line in said.splitlines() if "::" in line]
    assert sorted(listed) == sorted(collected)
    assert [row[0] for row in rows] == ["cost", "latency", "rate", "uptime", "residency"]
    assert all(
        name.removesuffix("]").endswith(manner)
        for row in rows
        for manner, cell in zip(("require", "want", "shadow"), row[1:], strict=True)
        for name in re.findall(r"`([^`]+)`", cell)
    )


def test_the_keys_of_a_case() -> None:
    listed = {row[0].partition(",")[0].strip("`"): set(names(row[1])) for row in table("table: case keys")}
    assert listed["given"] == {one.name for one in fields(Request)}
    assert listed["readings"] == {one.name for one in fields(ReadingSpec)}
    assert listed["rates"] == {one.name for one in fields(RateSpec)}
    assert listed["budgets"] == {one.name for one in fields(FundSpec)}
    assert listed["expect"] == set(ASPECTS)


def test_the_presets() -> None:
    shipped = {path.stem for path in (ROOT / "policies" / "presets").glob("*.yaml") if ".test" not in path.name}
    assert {name for row in table("table: presets") for name in names(row[0])} == shipped


def test_the_explanation_that_is_shown(tmp_path: Path) -> None:
    readings = tmp_path / "readings.yaml"
    readings.write_text("local: {in_flight: 64}\n")
    asked = ("explain", "policies/default.yaml", "--model", "gpt-4.1-mini", "--readings", str(readings))
    env = os.environ | {"OPENAI_API_KEY": "sk-for-this-test", "COLUMNS": "100"}
    command = (sys.executable, "-m", "proxy", "policy", *asked)
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=env).stdout
    shown = [_undated(line) for line in block("shows", "explain").text.splitlines() if line]
    assert shown == [line for line in map(_undated, said.splitlines()) if line in shown]


def _undated(line: str) -> str:
    """The line without figures of the price list, which is dated."""
    return re.sub(r"litellm [0-9.]+", "litellm", re.sub(r"about \$[0-9.]+", "about", line)).rstrip()


def test_the_columns_of_status() -> None:
    nothing = {"requests": 0, "spilled": 0, "spill_share": None, "shared_nano_usd": 0, "dedicated_nano_usd": 0}
    shown = period_table(Period(seconds=None, targets=(), **nothing))
    assert block("shows", "status").text.splitlines()[0].split() == [column.header for column in shown.columns]


def test_the_columns_of_latency() -> None:
    shown = "  ".join(str(column.header) for column in latency_table([], 300.0).columns)
    assert block("shows", "latency").text.splitlines()[1].split() == shown.split()


def test_the_targets_of_the_makefile() -> None:
    made = re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    listed = {name.removeprefix("make ") for row in table("table: targets") for name in names(row[0])}
    assert listed | {"help", "setup", "demo"} == set(made)
