"""`spillway policy import litellm`: what it writes, what it says, and its exit status."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy.cli.policy import app
from typer.testing import CliRunner, Result

CONFIG = Path(__file__).parents[1] / "policy" / "from_litellm" / "platform.yaml"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_the_policy_goes_to_stdout_and_the_notes_to_stderr() -> None:
    result = run("import", "litellm", CONFIG)
    assert result.exit_code == 0
    assert result.stdout == CONFIG.with_name("platform.policy.yaml").read_text("utf-8")
    assert f"{CONFIG}:53:7: `api_key` is written in clear, and is not copied" in result.stderr
    assert result.stderr.splitlines()[-1] == (
        "8 targets, 7 models, 26 notes; next: spillway policy check --without-secrets FILE"
    )


def test_the_policy_goes_to_a_file(tmp_path: Path) -> None:
    config, output = tmp_path / "config.yaml", tmp_path / "policy.yaml"
    config.write_text("model_list: [{model_name: gpt, litellm_params: {model: openai/gpt-4.1-mini}}]\n")
    result = run("import", "litellm", config, "-o", output)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"1 target, 1 model, 0 notes; next: spillway policy check --without-secrets {output}\n"
    checked = run("check", "--without-secrets", output)
    assert checked.exit_code == 0, checked.output
    assert "openai-gpt-4.1-mini" in checked.output


def test_names_for_wildcards_are_given(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text('model_list: [{model_name: "*", litellm_params: {model: "openai/*"}}]\n')
    assert run("import", "litellm", config).exit_code == 1
    result = run("import", "litellm", config, "--model", "gpt-5", "--model", "gpt-5-mini")
    assert result.exit_code == 0
    assert "  gpt-5: [openai-gpt-5]\n  gpt-5-mini: [openai-gpt-5-mini]\n" in result.stdout


@pytest.mark.parametrize("text", ["model_list: [", "targets: {}", "model_list: []", "\x00", ""])
def test_what_is_no_config_is_refused(text: str, tmp_path: Path) -> None:
    config, output = tmp_path / "config.yaml", tmp_path / "policy.yaml"
    config.write_text(text)
    result = run("import", "litellm", config, "-o", output)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert str(config) in result.stderr
    assert not output.exists()


def test_a_file_that_is_not_there_or_cannot_be_written(tmp_path: Path) -> None:
    absent = run("import", "litellm", tmp_path / "absent.yaml")
    assert (absent.exit_code, absent.stderr) == (2, f"no such file: `{tmp_path / 'absent.yaml'}`\n")
    unwritable = run("import", "litellm", CONFIG, "-o", tmp_path / "no" / "where.yaml")
    assert unwritable.exit_code == 1
    assert "cannot write" in unwritable.stderr
