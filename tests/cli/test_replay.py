"""`spillway replay`: from a trace and a policy to a table, data and a page; and what it says to nonsense."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from proxy.cli import replay as verb
from proxy.cli import replay_runs
from proxy.cli.command import app
from proxy.cli.replay_question import Unanswerable, read_jobs
from proxy.cli.replay_table import print_report
from rich.console import Console
from tests.advisor.replays import one_policy, two_policies
from typer.testing import CliRunner

POLICY = """
version: 1
targets:
  gpus:
    lane: dedicated
    engine: vllm
    url: http://llama:8000/v1
    model: llama
    gpus: {type: H100, count: 2, usd_per_hour: 2.99}
    engine_profile: 70b-fp8-2xh100
    max_batched_tokens: 384
  api: {lane: shared, provider: openai, url: "https://api/v1", model: llama, price: {input: 0.72, output: 0.72}}
models:
  llama: [gpus, api]
  small: [api]
routes:
  - {name: chat, want: {ttft_p99: 2s, itl_p99: 50ms}}
"""


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten requests a second for a minute: more than one replica serves, and less than two."""
    draw = np.random.default_rng(3)
    at_s = np.cumsum(draw.exponential(0.1, 600))
    rows = zip(at_s, draw.integers(500, 2500, 600), draw.integers(50, 400, 600), draw.integers(1, 3, 600), strict=True)
    path = tmp_path_factory.mktemp("traces") / "trace.csv"
    head = "arrival_s,input_tokens,output_tokens,app\n"
    path.write_text(head + "".join(f"{at:.3f},{into},{out},{app}\n" for at, into, out, app in rows))
    return path


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return written(tmp_path / "work.yaml", POLICY)


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def replay(*words: object) -> Result:
    return CliRunner().invoke(app, ["replay", *map(str, words)])


def refused(*words: object) -> str:
    found = replay(*words)
    assert (found.exit_code, found.stdout) == (2, ""), found.output
    assert found.stderr.startswith("error: ")
    return found.stderr.removeprefix("error: ").rstrip()


def test_a_table_data_and_a_page(trace: Path, policy: Path, tmp_path: Path) -> None:
    files = ("--json", tmp_path / "out.json", "--html", tmp_path / "out.html")
    found = replay(trace, "--policy", policy, "--replicas", "0..2", "--bound", "-j", 1, *files)
    assert found.exit_code == 0, found.output
    assert found.stderr.startswith("600 requests over 62 s, 9.61 a second; 3 replays\n")
    data = json.loads((tmp_path / "out.json").read_text())
    assert [run["replicas"] for run in data["runs"]] == [{"gpus": count} for count in range(3)]
    assert data["runs"][0]["shared_dollar_share"] == pytest.approx(1.0, abs=1e-3)
    assert all(run["regret"] >= 1.0 for run in data["runs"])
    assert data["runs"][1]["all"]["spilled"] > 0
    assert {part["name"] for part in data["runs"][1]["apps"]} == {"1", "2"}
    assert "A replica of gpus steps like 70b-fp8-2xh100 (built in, named in the policy)." in found.stdout
    assert "not replayed" not in found.stdout
    assert "an hour ($" in found.stdout
    assert (tmp_path / "out.html").read_text().startswith("<!doctype html>")


def test_data_alone_on_standard_output(trace: Path, policy: Path) -> None:
    found = replay(trace, "--policy", policy, "--json", "-", "--slice", "..10s", "--scale-rate", 2)
    data = json.loads(found.stdout)
    assert data["trace"]["span_s"] == pytest.approx(5.0)
    assert [run["replicas"] for run in data["runs"]] == [{"gpus": 1}]


def test_two_policies_side_by_side(trace: Path, policy: Path, tmp_path: Path) -> None:
    shared = written(
        tmp_path / "threshold.yaml", POLICY.replace("    max_batched", "    max_in_flight: 4\n    max_batched")
    )
    found = replay(trace, "--policy", policy, "--policy", shared, "-j", 1, "--slice", "0..20s")
    assert found.exit_code == 0, found.output
    assert "the best of each" in found.stdout
    assert "difference" in found.stdout
    assert "work.yaml: With 1 replica" in found.stdout
    assert "threshold.yaml: With 1 replica" in found.stdout


def test_processes_and_seeds_make_no_difference(trace: Path, policy: Path) -> None:
    words = (trace, "--policy", policy, "--replicas", "0,1", "--json", "-", "--slice", "0..20s")
    one, two = (json.loads(replay(*words, "-j", count).stdout) for count in (1, 2))
    for run in (*one["runs"], *two["runs"]):
        del run["replay_s"]
    assert one == two
    different = json.loads(replay(*words, "-j", 1, "--seed", 7).stdout)
    assert different["runs"][0]["all"]["ttft_s"] != one["runs"][0]["all"]["ttft_s"]


def test_rules_of_others(trace: Path, policy: Path) -> None:
    words = ("--replicas", "0..1", "--baselines", "--json", "-", "-j", 1, "--slice", "0..10s")
    data = json.loads(replay(trace, "--policy", policy, *words).stdout)
    kinds = {one["policy"].rstrip("0123456789.% ") for one in data["baselines"]}
    assert kinds == {"all dedicated", "in flight", "queue", "weight", "AIMD"}
    assert [run["replicas"] for run in data["runs"]] == [{"gpus": 0}, {"gpus": 1}]
    assert {one["replicas"]["gpus"] for one in data["baselines"]} == {1}


def test_another_model_has_other_targets(trace: Path, policy: Path) -> None:
    data = json.loads(replay(trace, "--policy", policy, "--model", "small", "--json", "-").stdout)
    assert data["runs"][0]["all"]["dedicated"] == 0


def test_a_policy_without_gpus_of_ones_own(trace: Path, tmp_path: Path) -> None:
    head, _, rest = POLICY.partition("  gpus:\n")
    text = head + rest[rest.index("  api:") :].replace("[gpus, api]", "[api]")
    alone = written(tmp_path / "alone.yaml", text)
    assert "no dedicated target" in refused(trace, "--policy", alone, "--replicas", "1")
    found = replay(trace, "--policy", alone)
    assert found.exit_code == 0, found.output
    assert "Without GPUs of one's own" in found.stdout


def test_names_are_not_taken_for_markup(policy: Path, tmp_path: Path) -> None:
    text = "arrival_s,input_tokens,output_tokens,app\n0,100,10,[red]a[/red]\n1,100,10,b\n"
    assert "[red]a[/red]" in replay(written(tmp_path / "trace.csv", text), "--policy", policy).stdout


def test_what_is_not_replayed_is_told_of(trace: Path, tmp_path: Path) -> None:
    limited = written(tmp_path / "limited.yaml", POLICY.replace("output: 0.72}", "output: 0.72}, limits: {rpm: 5}"))
    said = replay(trace, "--policy", limited, "--slice", "0..5s").stdout
    assert "Budgets and rates are not replayed: nothing is refused for them." in said


def test_tenants_are_those_of_the_policy(tmp_path: Path) -> None:
    text = "arrival_s,input_tokens,output_tokens,tenant,key\n0,100,10,bank,ci\n1,100,10,shop,\n2,100,10,bank,\n"
    route = (
        "  - {name: gdpr, match: {tags: [gdpr]}, require: {lane: shared}}\n  - {name: ours, match: {key: bank/ci}}\n"
    )
    bank, shop = (f"sha256:{digits * 8}" for digits in ("2f1c0b0c", "8a7b6c5d"))
    tenants = (
        f"tenants:\n  bank: {{keys: [{{name: ci, digest: '{bank}'}}]}}\n  shop: {{tags: [gdpr], keys: ['{shop}']}}\n"
    )
    policy = written(tmp_path / "tenants.yaml", POLICY.replace("routes:\n", f"{tenants}routes:\n{route}"))
    data = json.loads(replay(written(tmp_path / "trace.csv", text), "--policy", policy, "--json", "-").stdout)
    run = data["runs"][0]
    assert {part["name"]: part["requests"] for part in run["routes"]} == {"gdpr": 1, "ours": 1, "chat": 1}
    assert {part["name"]: part["shared"] for part in run["tenants"]} == {"bank": 0, "shop": 1}


def test_gpus_without_a_price_are_told_of(trace: Path, tmp_path: Path) -> None:
    free = written(tmp_path / "free.yaml", POLICY.replace("    gpus: {type: H100, count: 2, usd_per_hour: 2.99}\n", ""))
    said = replay(trace, "--policy", free, "--slice", "0..5s").stdout
    assert "The GPUs of gpus have no price in the policy: their hours are counted as free." in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--replicas", "6..0"), "`--replicas 6..0` is no number of replicas (hint: `0..6`, `2` or `1,2,4`)"),
        (("--replicas", "many"), "`--replicas many` is no number of replicas"),
        (("--replicas", "gpu=2"), "`--replicas`: no dedicated target `gpu` (hint: did you mean `gpus`?)"),
        (("--replicas", "gpus=x"), "`--replicas`: `gpus=x` is no number of replicas (hint: `NAME=2`)"),
        (("--scale-rate", "0"), "`--scale-rate 0`: a rate is above 0"),
        (("--slice", "10m"), "`--slice 10m` is no span of time (hint: `10m..40m`, `..1h` or `30m..`)"),
        (("--slice", "40m..10m"), "`--slice 40m..10m` is no span of time"),
        (("--slice", "1..2"), "`--slice 1..2`: "),
        (("--slice", "10h..11h"), "`--slice 10h..11h`: no request arrives in that part of the trace, which lasts"),
        (("--time-unit", "min"), "`--time-unit min` is no unit (hint: "),
        (("--model", "lama"), "has no model `lama` (hint: did you mean `llama`?)"),
        (("--replicas", "0", "--baselines"), "`--baselines` needs dedicated replicas (hint: `--replicas 1..4`)"),
        (("--html", "/nowhere/page.html"), "`/nowhere/page.html` cannot be written: there is no folder `/nowhere`"),
        (("--json", "/"), "`/` cannot be written: it is a folder"),
    ],
)
def test_nonsense_is_told_what_is_wrong(trace: Path, policy: Path, words: Sequence[str], message: str) -> None:
    found = replay(trace, "--policy", policy, *words)
    assert found.exit_code == 2
    assert message in found.stderr


def test_files_that_are_wrong(trace: Path, policy: Path, tmp_path: Path) -> None:
    assert refused(tmp_path / "none.csv", "--policy", policy).startswith("cannot read `")
    assert refused(trace, "--policy", tmp_path / "none.yaml").startswith("no such file or folder: `")
    broken = written(tmp_path / "broken.yaml", POLICY.replace("lane: dedicated", "lane: fast"))
    assert ":5:11: expected one of `dedicated`, `shared`, got `fast`" in refused(trace, "--policy", broken)
    assert refused(trace, "--policy", policy, "--policy", policy).startswith("a policy is named twice")


def test_a_killed_process_is_told_of(trace: Path, policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise BrokenProcessPool

    monkeypatch.setattr(replay_runs, "run_all", killed)
    said = replay(trace, "--policy", policy)
    assert said.exit_code == 2
    assert "a process of the replay was killed, perhaps for want of memory" in said.stderr


def test_without_a_policy(trace: Path) -> None:
    assert replay(trace).exit_code == 2


def test_the_missing_extra_is_named(trace: Path, policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "find_spec", lambda name: None if name == "scipy" else object())
    said = refused(trace, "--policy", policy)
    assert said == "replaying needs scipy (hint: pip install 'spillway-proxy[advisor]')"


def test_replicas_by_name_leave_the_others_out(tmp_path: Path) -> None:
    second = "  more: {lane: dedicated, engine: vllm, urls: ['http://a:1/v1', 'http://b:1/v1'], model: llama}\n"
    text = POLICY.replace("  api:", f"{second}  api:").replace("[gpus, api]", "[gpus, more, api]")
    path = written(tmp_path / "two.yaml", text)

    def asked(replicas: str) -> list[dict[str, int]]:
        return [job.replicas for job in read_jobs([path], replicas, bound=True, seed=0, model="")]

    assert asked("") == [{"gpus": 1, "more": 2}]
    assert asked("more=3") == [{"gpus": 0, "more": 3}]
    assert asked("0..1,4") == [{"gpus": count, "more": count} for count in (0, 1, 4)]
    with pytest.raises(Unanswerable):
        asked("1001")


def test_only_the_first_run_of_a_policy_works_out_its_bound(policy: Path, tmp_path: Path) -> None:
    other = written(tmp_path / "other.yaml", POLICY)
    jobs = read_jobs([policy, other], "0..2", bound=True, seed=5, model="")
    assert [job.bound for job in jobs] == [True, False, False] * 2
    assert {job.policy for job in jobs} == {"work.yaml", "other.yaml"}
    assert {job.seed for job in jobs} == {5}


@pytest.mark.parametrize("width", [80, 118, 160])
def test_tables_fit_the_terminal_with_whole_words(width: int) -> None:
    out = io.StringIO()
    print_report(two_policies(), Console(width=width, file=out))
    tables = out.getvalue().partition("policy.yaml: With 1 replica")[0]
    assert max(map(len, tables.splitlines())) <= width
    assert "…" not in tables
    assert ("$/month" in tables) == (width > 80)
    assert ("GPUs" in tables.partition("the best of each")[0]) == (width == 160)


def test_one_policy_has_its_quantiles_and_two_their_differences() -> None:
    one, two = io.StringIO(), io.StringIO()
    print_report(one_policy(), Console(width=118, file=one))
    print_report(two_policies(), Console(width=118, file=two))
    assert re.search(r" TTFT +325 ms +703 ms +877 ms +1.25 s ", one.getvalue())
    assert re.search(r" served in time +99.92 % +99.61 % +-0.31 points ", two.getvalue())
