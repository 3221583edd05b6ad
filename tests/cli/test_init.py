"""`spillway init`: asked in a terminal or answered in a file, it writes a policy in which nothing is found."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from proxy.cli.command import app
from proxy.policy.starter.kinds import Kind
from proxy.policy.starter.profiles import PROFILES
from typer.testing import CliRunner, Result

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 30.0

ANSWERS = """\
interface: agents
models:
  agent:
    dedicated: {url: http://vllm:8000/v1, model: m, region: eu-west-1}
    shared: [{provider: nebius, model: Qwen/Qwen3-235B-A22B-Instruct-2507, region: eu-north-1, retention: zero}]
usage: {traffic: both, product: b2b, tenants: [bank, shop], residency: {region: eu-*, retention: zero, tenants: bank}}
"""

VARIABLES = "NEBIUS_API_KEY, BANK_KEY_SHA256, SHOP_KEY_SHA256"
IN_ITS_OWN_TERMINAL = """
import fcntl, runpy, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # Ctrl-C is then a signal, as it is for a person
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever runs in a shell's background ignores it
sys.argv = ["spillway", "init"]
runpy.run_module("proxy", run_name="__main__")
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def spillway(*arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(app, arguments, input=typed)


def assert_checked_and_tested(policy: str = "policy.yaml") -> None:
    """The policy has no finding, and its cases pass and see every route and rule."""
    check = spillway("policy", "check", "--without-secrets", "--strict", policy)
    assert check.exit_code == 0, check.output
    assert "warning" not in check.output
    assert "advice" not in check.output
    test = spillway("policy", "test", policy, "--coverage-min", "90%")
    assert test.exit_code == 0, test.output


def test_answers_in_a_file_become_a_policy_and_its_tests(here: Path) -> None:
    (here / "answers.yaml").write_text(ANSWERS, "utf-8")
    result = spillway("init", "--answers", "answers.yaml")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "wrote policy.yaml and policy.test.yaml",
        "checked: nothing was found in it",
        f"it reads {VARIABLES} from the environment: its first lines say how to set them",
        "next:",
        "  spillway policy test policy.yaml",
        "  spillway serve --policy policy.yaml",
    ]
    assert sorted(path.name for path in here.iterdir()) == ["answers.yaml", "policy.test.yaml", "policy.yaml"]
    assert_checked_and_tested()


def test_answers_from_standard_input_and_a_name_of_ones_own(here: Path) -> None:
    result = spillway("init", "--answers", "-", "-o", "eu.yaml", typed=ANSWERS)
    assert result.exit_code == 0, result.output
    assert (here / "eu.test.yaml").is_file()
    assert_checked_and_tested("eu.yaml")


@pytest.mark.parametrize("kind", Kind)
def test_enter_is_enough_for_every_kind(kind: Kind) -> None:
    result = spillway("init", typed=f"{kind}\n" + "\n" * 60)
    assert result.exit_code == 0, result.output
    assert "checked: nothing was found in it" in result.stdout
    assert_checked_and_tested()


@pytest.mark.parametrize("kind", Kind)
def test_offline_customers_in_europe_too(kind: Kind) -> None:
    europe = "eu-west-1\n"
    models = "".join(
        f"\n\n\n\n\n\n{europe}\n\n{europe}zero\n" for _ in dict.fromkeys(work.endpoint for work in PROFILES[kind].works)
    )
    gpus = "\n\n\n" * models.count("zero")
    result = spillway("init", typed=f"{kind}\n{models}\n{gpus}\n\n\noffline\nb2b\nbank, shop\neu-*\nzero\nbank\n")
    assert result.exit_code == 0, result.output
    assert_checked_and_tested()
    text = Path("policy.yaml").read_text("utf-8")
    assert "- name: eu-offline" in text
    assert "region: eu-*" in text


def test_wrong_answers_are_asked_for_again_with_a_remedy(here: Path) -> None:
    typed = [
        *("chatt", "chat", "chat", "y"),
        *(
            "http://localhost:8000",
            "http://localhost:8000/v1 http://other:8000/v1",
            "vllm",
            "m",
            "fp8",
            "EU",
            "eu-west-1",
        ),
        *("opnai", "openai", "gpt-4.1-mini", "us", "zero"),
        *("n", "400", "400ms", "30"),
        *("H100", "2", "2.99", "$0.02", "latency", "$500", "$500/month"),
        *("both", "consumer", "web, ios", "us-east-*", "eu-*", "none", "android", "ios"),
    ]
    result = spillway("init", typed="\n".join(typed) + "\n")
    assert result.exit_code == 0, result.output
    for complaint in (
        "did you mean `chat`?",
        "`http://localhost:8000` has no path",
        "write `eu`",
        "unknown provider `opnai` (did you mean `openai`?)",
        "write `400ms` or `400s`",
        "no target of model `chat` is in `us-east-*` (their regions: eu-west-1, us)",
        "a limit without its window: `$500`",
        "unknown tenant `android`",
    ):
        assert complaint in result.stdout
    text = (here / "policy.yaml").read_text("utf-8")
    for line in (
        "ttft_p99: 400ms",
        "perceived_tps: 30",
        "max_usd_per_request: 0.02",
        "prefer: latency",
        "tags: [eu]",
        "limit: $500/month",
    ):
        assert line in text
    assert_checked_and_tested()


def test_a_price_that_nobody_knows_is_asked_for(here: Path) -> None:
    typed = "chat\nchat\nn\nopenai\nno-such-model\n0.5\n1.5\n\n\n" + "\n" * 10
    result = spillway("init", typed=typed)
    assert result.exit_code == 0, result.output
    assert "does not know `no-such-model` at openai" in result.stdout
    assert "price: {input: 0.5, output: 1.5}" in (here / "policy.yaml").read_text("utf-8")
    assert_checked_and_tested()


def test_two_models_have_two_names_and_two_ports(here: Path) -> None:
    typed = "search\nfind\n\n\n\n\n\n\n\n\n\n\nfind\nsay\n" + "\n" * 40
    result = spillway("init", typed=typed)
    assert result.exit_code == 0, result.output
    assert "`find` is the name of the model before" in result.stdout
    text = (here / "policy.yaml").read_text("utf-8")
    assert "http://localhost:8000/v1" in text
    assert "http://localhost:8001/v1" in text
    assert "find: [own-find, nebius]" in text


def test_a_provider_with_an_address_for_every_customer_asks_for_it(here: Path) -> None:
    typed = "chat\nchat\nn\n,\nazure\nhttps://mine.openai.azure.com\ngpt-4.1-mini\n" + "\n" * 20
    result = spillway("init", typed=typed)
    assert result.exit_code == 0, result.output
    assert "expected at least one" in result.stdout
    assert "url: https://mine.openai.azure.com" in (here / "policy.yaml").read_text("utf-8")


def test_something_has_to_answer() -> None:
    result = spillway("init", typed="chat\nchat\nn\nnone\nnebius\n" + "\n" * 20)
    assert result.exit_code == 0, result.output
    assert "Something has to answer." in result.stdout


def test_a_latency_budget_for_nobody_is_left_out(here: Path) -> None:
    typed = "chat\nchat\ny\n\n\n\n\n\n\n\n\n\nn\n400ms\n\n\n\n\n\n\n\noffline\n" + "\n" * 10
    result = spillway("init", typed=typed)
    assert result.exit_code == 0, result.output
    assert "Nobody waits for offline traffic" in result.stdout
    assert "ttft" not in (here / "policy.yaml").read_text("utf-8")


def test_nothing_is_overwritten_unasked(here: Path) -> None:
    (here / "answers.yaml").write_text(ANSWERS, "utf-8")
    for name in ("policy.yaml", "policy.test.yaml"):
        (here / name).write_text("mine\n", "utf-8")
        result = spillway("init", "--answers", "answers.yaml")
        assert result.exit_code == 1
        assert f"`{name}` exists already" in result.stderr
        assert "--force" in result.stderr
        assert (here / name).read_text("utf-8") == "mine\n"
        (here / name).unlink()
    (here / "policy.yaml").write_text("mine\n", "utf-8")
    assert spillway("init", "--answers", "answers.yaml", "--force").exit_code == 0
    assert_checked_and_tested()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--answers", "nowhere.yaml"], 2, "no such file: `nowhere.yaml`"),
        (["-o", "nowhere/policy.yaml"], 1, "no such folder: `nowhere`"),
        (["-o", "policy.txt"], 2, "is no name for a policy"),
        (["-o", "policy.test.yaml"], 2, "is no name for a policy"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_asked(
    arguments: list[str], status: int, words: str, here: Path
) -> None:
    result = spillway("init", *arguments)
    assert result.exit_code == status
    assert words in result.stderr.replace("\n", " ").replace("│", "").replace("  ", " ")
    assert list(here.iterdir()) == []


def test_answers_with_mistakes_are_refused_with_their_places(here: Path) -> None:
    (here / "answers.yaml").write_text(ANSWERS.replace("agents", "agent", 1) + "budget: 1\n", "utf-8")
    result = spillway("init", "--answers", "answers.yaml")
    assert result.exit_code == 1
    assert "answers.yaml:1:12: expected one of" in result.stderr
    assert "answers.yaml:7:1: unknown key `budget`" in result.stderr
    assert [path.name for path in here.iterdir()] == ["answers.yaml"]


def test_answers_that_are_odd_together_are_written_and_the_finding_is_told(here: Path) -> None:
    (here / "answers.yaml").write_text(ANSWERS + "economics: {usd_per_mtok: 0.01}\n", "utf-8")
    result = spillway("init", "--answers", "answers.yaml")
    assert result.exit_code == 1
    assert "warning: policy.yaml:" in result.stdout
    assert (here / "policy.test.yaml").is_file()


def test_a_policy_that_does_not_compile_is_written_to_be_mended(here: Path) -> None:
    (here / "answers.yaml").write_text(ANSWERS.replace("nebius", "nebiuss"), "utf-8")
    result = spillway("init", "--answers", "answers.yaml")
    assert result.exit_code == 1
    assert "wrote policy.yaml, which needs mending" in result.stdout
    assert "unknown provider `nebiuss`" in result.stdout
    assert not (here / "policy.test.yaml").exists()


class Terminal:
    """The real command in a pseudo-terminal."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self.said = ""
        self._descriptor = descriptor

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def wait_for(self, done: Callable[[], bool]) -> None:
        """Read until `done`, or until nothing more comes."""
        until = time.monotonic() + WAIT_S
        while not done() and time.monotonic() < until:
            if select.select([self._descriptor], [], [], 0.2)[0]:
                try:
                    self.said += os.read(self._descriptor, 4096).decode()
                except OSError:  # the other end is closed
                    return

    def end(self) -> int:
        """Read what is left; the exit status."""
        self.wait_for(lambda: False)
        return self.process.wait(WAIT_S)


@contextmanager
def terminal(folder: Path) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", IN_ITS_OWN_TERMINAL],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()
        os.close(ours)


def test_a_conversation_in_a_terminal(here: Path) -> None:
    with terminal(here) as asked:
        asked.wait_for(lambda: asked.said.rstrip().endswith("[chat]:"))
        asked.type("voice\n")
        for _ in range(40):
            already = len(asked.said)
            asked.wait_for(lambda: asked.said[already:].rstrip().endswith("]:") or "next:" in asked.said)  # noqa: B023
            if "next:" in asked.said:
                break
            asked.type("\n")
        assert asked.end() == 0
    assert "5 of 5" in asked.said
    assert "spillway serve --policy policy.yaml" in asked.said
    assert_checked_and_tested()


def test_ctrl_c_leaves_nothing_behind(here: Path) -> None:
    with terminal(here) as asked:
        asked.wait_for(lambda: asked.said.rstrip().endswith("[chat]:"))
        asked.type("\n")
        asked.wait_for(lambda: "Name that apps ask for" in asked.said)
        asked.type("\x03")
        assert asked.end() not in (0, -signal.SIGINT)
    assert "Traceback" not in asked.said
    assert list(here.iterdir()) == []


def test_the_end_of_the_input_leaves_nothing_behind(here: Path) -> None:
    result = spillway("init", typed="chat\n")
    assert result.exit_code == 1
    assert list(here.iterdir()) == []


def test_a_write_that_fails_leaves_no_draft(here: Path) -> None:
    (here / "answers.yaml").write_text(ANSWERS, "utf-8")
    (here / "policy.test.yaml").mkdir()
    result = spillway("init", "--answers", "answers.yaml", "--force")
    assert result.exit_code == 1
    assert not [path for path in here.iterdir() if path.name.startswith(".")]
