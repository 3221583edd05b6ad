"""`spillway serve`: options, else the environment, become settings; a reason not to start is one line and status 1."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy import run as starting
from proxy.cli.command import app
from proxy.serving import StartError
from proxy.settings import Settings
from typer.testing import CliRunner


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that it was started with; nothing is."""
    found: list[Settings] = []
    monkeypatch.setattr(starting, "run", found.append)
    return found


def test_options_become_settings(started: list[Settings], tmp_path: Path) -> None:
    options = ["--policy", "p.yaml", "--host", "::1", "--port", "0", "--admin-port", "7", "--workers", "3"]
    options += ["--redis-url", "redis://r", "--drain", "10m", "--drain-delay", "5s"]
    ran = CliRunner().invoke(app, ["serve", *options], env={"SPILLWAY_DATA_DIR": str(tmp_path), "SPILLWAY_PORT": "9"})
    assert ran.exit_code == 0, ran.output
    assert started == [
        Settings(
            policy=Path("p.yaml"),
            host="::1",
            port=0,
            admin_port=7,
            redis_url="redis://r",
            workers=3,
            data_dir=tmp_path,
            drain_s=600.0,
            drain_delay_s=5.0,
        )
    ]


def test_the_environment_stands_in_for_options(started: list[Settings], tmp_path: Path) -> None:
    env = {
        "SPILLWAY_POLICY": "p.yaml",
        "SPILLWAY_HOST": "10.0.0.1",
        "SPILLWAY_PORT": "1",
        "SPILLWAY_ADMIN_HOST": "127.0.0.1",
        "SPILLWAY_ADMIN_PORT": "2",
        "SPILLWAY_REDIS_URL": "redis://r",
        "SPILLWAY_REDIS_PASSWORD": "p@ss",
        "SPILLWAY_WORKERS": "4",
        "SPILLWAY_DATA_DIR": str(tmp_path),
        "SPILLWAY_DRAIN": "590s",
        "SPILLWAY_DRAIN_DELAY": "1500ms",
    }
    assert CliRunner().invoke(app, ["serve"], env=env).exit_code == 0
    (settings,) = started
    assert (settings.host, settings.admin_host, settings.port, settings.admin_port) == ("10.0.0.1", "127.0.0.1", 1, 2)
    assert (settings.redis_url, settings.workers, settings.data_dir) == ("redis://:p%40ss@r", 4, tmp_path)
    assert (settings.drain_s, settings.drain_delay_s) == (590.0, 1.5)


@pytest.mark.parametrize("none", ["0", "0s", "0.0s", "0 m"])
def test_a_server_may_be_told_to_end_without_a_drain(none: str, started: list[Settings]) -> None:
    ran = CliRunner().invoke(app, ["serve", "--policy", "p.yaml", "--drain", none, "--drain-delay", none])
    assert ran.exit_code == 0, ran.output
    assert (started[0].drain_s, started[0].drain_delay_s) == (0.0, 0.0)


def test_a_store_that_cannot_be_one_is_told_without_its_password(started: list[Settings]) -> None:
    ran = CliRunner().invoke(app, ["serve", "--policy", "p.yaml", "--redis-url", "http://:canary-9a44@r"])
    assert (ran.exit_code, started) == (2, [])
    assert "--redis-url" in ran.output
    assert "canary-9a44" not in ran.output


def test_the_decision_log_is_told_how_to_rotate(started: list[Settings], tmp_path: Path) -> None:
    given = {"--decision-log": tmp_path / "log", "--decision-log-max-bytes": "1GB", "--decision-log-max-age": "24h"}
    given |= {"--decision-log-keep": "3"}
    options = [str(word) for pair in given.items() for word in pair]
    ran = CliRunner().invoke(app, ["serve", "--policy", "p.yaml", *options, "--decision-log-gzip"])
    assert ran.exit_code == 0, ran.output
    (settings,) = started
    assert (settings.decision_log, settings.decision_log_max_bytes) == (tmp_path / "log", 10**9)
    assert (settings.decision_log_max_age_s, settings.decision_log_keep) == (86_400.0, 3)
    assert settings.decision_log_gzip


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--decision-log-max-bytes", "much", "expected a size, got `much`"),
        ("--decision-log-max-age", "1day", "not a unit of time"),
        ("--drain", "590", "duration without a unit: `590` (hint: write `590ms` or `590s`)"),
        ("--drain-delay", "soon", "expected a duration, got `soon`"),
        ("--decision-log-keep", "0", "greater than or equal to 1"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(
    started: list[Settings], monkeypatch: pytest.MonkeyPatch, flag: str, value: str, said: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    ran = CliRunner().invoke(app, ["serve", "--policy", "p.yaml", flag, value])
    assert (ran.exit_code, started) == (2, [])
    assert said in ran.output
    assert flag in ran.output


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--policy", "p", "--port", "65536"],
        ["--policy", "p", "--admin-port", "-1"],
        ["--policy", "p", "--workers", "0"],
        ["--policy", "p", "--port", "http"],
    ],
)
def test_options_out_of_range_are_refused(options: list[str], started: list[Settings]) -> None:
    assert CliRunner().invoke(app, ["serve", *options]).exit_code == 2
    assert started == []


def test_a_reason_not_to_start_is_told_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(settings: Settings) -> None:
        raise StartError("not started: because")

    monkeypatch.setattr(starting, "run", refuse)
    ran = CliRunner().invoke(app, ["serve", "--policy", "p"])
    assert ran.exit_code == 1
    assert ran.output == "not started: because\n"


def test_the_admin_token_comes_from_the_environment(started: list[Settings]) -> None:
    env = {"SPILLWAY_ADMIN_TOKEN": "canary-token\n"}
    assert CliRunner().invoke(app, ["serve", "--policy", "p.yaml"], env=env).exit_code == 0
    assert started[0].admin_token == "canary-token"


def test_an_admin_token_that_cannot_be_sent_is_a_reason_not_to_start(started: list[Settings]) -> None:
    ran = CliRunner().invoke(app, ["serve", "--policy", "p.yaml"], env={"SPILLWAY_ADMIN_TOKEN": "canary token"})
    assert (ran.exit_code, started) == (1, [])
    assert "no header can carry" in ran.stderr
    assert "canary" not in ran.output
