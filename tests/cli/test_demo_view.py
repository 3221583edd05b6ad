"""What the demo draws: that it fits, says what is simulated, and shows the figures it is given."""

from __future__ import annotations

import io

import pytest
from proxy.cli.demo_money import Purse
from proxy.cli.demo_story import DEDICATED, SHARED, Story
from proxy.cli.demo_view import Frame, line, picture, sparkline, summary
from proxy.policy.model import Lane
from rich.console import Console, RenderableType
from tests.cli.test_demo_money import report, target
from tests.cli.test_demo_story import answer

FRAME = Frame(
    at_s=20.0,
    now=20.0,
    rate=24.0,
    url="http://127.0.0.1:43210/v1",
    console_url="http://127.0.0.1:43211/",
    in_flight={DEDICATED: 16, SHARED: 21},
    tokens_per_s={DEDICATED: 700.0, SHARED: 900.0},
)


@pytest.fixture
def story() -> Story:
    story = Story(0.0)
    for now in range(1, 20):
        answer(story, DEDICATED, float(now), waited_s=0.06, reason="preferred: cost")
        if 8 <= now < 14:
            answer(story, SHARED, now + 0.5, waited_s=0.31, reason="dedicated at capacity: 16 of 16 in flight on it")
    return story


@pytest.fixture
def purse() -> Purse:
    purse = Purse()
    dedicated = target(Lane.DEDICATED, 30_000_000, 60_000, 43_200_000)
    purse.note(report(dedicated, target(Lane.SHARED, 7_200_000, 10_000)), 19.0)
    return purse


def drawn(what: RenderableType, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False, highlight=False)
    console.print(what, soft_wrap=True)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (200, 60)])
def test_the_picture_fits_the_terminal(story: Story, purse: Purse, width: int, height: int) -> None:
    lines = drawn(picture(story, purse, FRAME, width, height), width).splitlines()
    assert len(lines) <= height
    assert all(len(text) <= width for text in lines)


def test_the_picture_says_what_is_simulated_and_shows_both_lanes(story: Story, purse: Purse) -> None:
    text = drawn(picture(story, purse, FRAME, 100, 30))
    for part in (
        "SIMULATED",
        "24.0 requests/s",
        "16 of 16",
        "p50 0.06 s",
        "p50 0.31 s",
        "$0.0300 by the clock",
        "0.50 so far",
        "$0.0072 by the token",
        "0.72 so far",
        "together $0.0372; the same tokens from the provider alone $0.0504",
        "spilling begins: dedicated at capacity",
        "traffic is back",
        "preferred: cost",
        "console http://127.0.0.1:43211/",
    ):
        assert part in text


def test_failures_are_not_hidden(story: Story, purse: Purse) -> None:
    story.failures.update({"status 500": 3, "status 503": 1})
    assert "4 failed: status 500" in drawn(picture(story, purse, FRAME, 100, 30))
    assert line(story, purse, FRAME).endswith("4 failed: status 500")


def test_nothing_yet_can_be_drawn_too() -> None:
    text = drawn(picture(Story(20.0), Purse(), FRAME, 80, 24), 80)
    assert "all on your GPUs" in text
    assert line(Story(20.0), Purse(), FRAME).endswith("spilled -")


def test_a_moment_is_one_line(story: Story, purse: Purse) -> None:
    text = line(story, purse, FRAME)
    assert "\n" not in text
    assert "dedicated 16/16 in flight, $0.0300, ttft p99 0.06 s" in text
    assert "shared 21 in flight, $0.0072, ttft p99 0.31 s" in text


def test_the_summary_has_shares_dollars_and_why(story: Story, purse: Purse) -> None:
    text = drawn(summary(story, purse, 7_200_000, 20.0))
    for part in (
        "25 requests answered, 0 failed, in 20 s",
        "76%",
        "24%",
        "at 8.5 s spilling begins: dedicated at capacity: 16 of 16 in flight on it",
        "at 16.0 s traffic is back",
        "$0.007200 by the proxy's meters, $0.007200 by the provider's",
    ):
        assert part in text


def test_the_summary_admits_what_did_not_happen() -> None:
    story = Story(0.0)
    story.failures["status 503"] = 4
    text = drawn(summary(story, Purse(), 0, 1.0))
    assert "nothing spilled" in text
    assert "traffic did not come back" in text
    assert "4 x status 503" in text


def test_a_sparkline_has_a_bar_a_share() -> None:
    assert sparkline([0.0, 0.5, 1.0, None]) == "▁▅█ "
