"""`spillway demo`: what its exit status says."""

from __future__ import annotations

import pytest
from proxy.cli import demo_scene
from proxy.cli.command import app
from proxy.cli.demo_stage import StageError
from proxy.cli.demo_story import Event, Story
from typer.testing import CliRunner


def run(monkeypatch: pytest.MonkeyPatch, *options: str, ends_with: Story | StageError) -> tuple[int, str]:
    """The verb with a performance that ends like this."""

    async def perform(seconds: float | None, tui: bool) -> Story:
        if isinstance(ends_with, StageError):
            raise ends_with
        return ends_with

    monkeypatch.setattr(demo_scene, "perform", perform)
    result = CliRunner().invoke(app, ["demo", *options])
    return result.exit_code, result.output


def seen(*, spilled: bool = True, returned: bool = True, failed: bool = False) -> Story:
    story = Story(0.0)
    story.lanes["dedicated"].answered = 10
    story.began = Event(5.0, "spilling begins", True) if spilled else None
    story.returned = Event(15.0, "traffic is back", False) if returned else None
    if failed:
        story.failures["status 500"] = 1
    return story


def test_spill_and_return_is_success(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "--seconds", "20", ends_with=seen())[0] == 0


@pytest.mark.parametrize("flaw", [{"spilled": False, "returned": False}, {"returned": False}, {"failed": True}])
def test_a_timed_run_fails_unless_everything_was_seen(monkeypatch: pytest.MonkeyPatch, flaw: dict[str, bool]) -> None:
    assert run(monkeypatch, "--seconds", "20", ends_with=seen(**flaw))[0] == 1


def test_ctrl_c_is_a_fine_end_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, ends_with=seen(spilled=False, returned=False))[0] == 0


def test_a_proxy_that_does_not_start_is_said_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = run(monkeypatch, ends_with=StageError("the proxy did not start:\nits last words"))
    assert (code, "its last words" in output, "Traceback" in output) == (1, True, False)


def test_less_time_than_a_rise_and_fall_needs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "--seconds", "5", ends_with=seen())[0] == 2
