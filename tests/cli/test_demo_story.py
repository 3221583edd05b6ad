"""The demo's account of what it saw: when spilling began, when it ended, and the figures in between."""

from __future__ import annotations

import pytest
from proxy.cli.demo_story import DEDICATED, QUIET_S, SHARED, Story, quantile
from proxy.simulator.load import Turn, Visit


def answer(story: Story, lane: str, now: float, *, waited_s: float = 0.1, reason: str = "because") -> Visit:
    """A whole visit that was answered at `now`."""
    headers = {"x-spillway-lane": lane, "x-spillway-target": f"the-{lane}", "x-spillway-reason": reason}
    visit = Visit(now - waited_s, 200, headers, tokens=7)
    for turn in (Turn.ANSWERED, Turn.BEGUN, Turn.ENDED):
        story.listen(visit, turn, now)
    return visit


def test_spilling_begins_with_the_first_shared_answer_and_says_why() -> None:
    story = Story(100.0)
    answer(story, DEDICATED, 101.0)
    assert (story.began, story.spilling) == (None, False)
    answer(story, SHARED, 105.0, reason="16 of 16 in flight")
    answer(story, SHARED, 106.0, reason="later")
    assert story.began is not None
    assert (story.began.at_s, story.began.text) == (5.0, "spilling begins: 16 of 16 in flight")
    assert len(story.events) == 1


def test_traffic_is_back_when_the_shared_lane_stays_quiet_while_the_dedicated_one_answers() -> None:
    story = Story(0.0)
    answer(story, DEDICATED, 0.5)
    answer(story, SHARED, 1.0)
    answer(story, DEDICATED, 1.5)
    answer(story, DEDICATED, 0.9 + QUIET_S)
    assert story.spilling
    answer(story, DEDICATED, 1.0 + QUIET_S)
    assert not story.spilling
    assert story.returned is not None
    assert story.complete


def test_silence_alone_is_no_return() -> None:
    story = Story(0.0)
    answer(story, SHARED, 1.0)
    answer(story, DEDICATED, 20.0)
    assert story.returned is None
    answer(story, DEDICATED, 20.1)
    assert story.returned is not None


def test_it_may_spill_and_return_again_but_the_first_times_are_kept() -> None:
    story = Story(0.0)
    for start in (10.0, 50.0):
        answer(story, SHARED, start)
        answer(story, DEDICATED, start + 1)
        answer(story, DEDICATED, start + 1 + QUIET_S)
    assert [event.spilling for event in story.events] == [True, False, True, False]
    assert (story.began, story.returned) == (story.events[0], story.events[1])


def test_the_spill_share_is_by_second() -> None:
    story = Story(0.0)
    for lane, now in ((DEDICATED, 0.1), (DEDICATED, 0.2), (SHARED, 2.1), (DEDICATED, 2.2), (SHARED, 3.0)):
        answer(story, lane, now)
    assert story.spill_shares(4.5, 60) == [0.0, None, 0.5, 1.0, None]
    assert story.spill_shares(4.5, 2) == [1.0, None]
    assert story.recent_spill_share(3.5) == pytest.approx(2 / 3)
    assert story.recent_spill_share(30.0) is None


def test_ttft_quantiles_are_of_late_and_the_sums_are_of_all() -> None:
    story = Story(0.0)
    answer(story, DEDICATED, 1.0, waited_s=9.0)
    for waited_s in (0.1, 0.2, 0.3):
        answer(story, DEDICATED, 15.0, waited_s=waited_s)
    lane = story.lanes[DEDICATED]
    assert lane.recent_ttft_s(0.5, 16.0) == pytest.approx(0.2)
    assert lane.recent_ttft_s(0.99, 16.0) == pytest.approx(0.3)
    assert (lane.answered, lane.ended, lane.output_tokens, max(lane.waits_s)) == (4, 4, 28, pytest.approx(9.0))


def test_failures_are_counted_by_reason_and_not_as_answers() -> None:
    story = Story(0.0)
    for failure, headers in (("status 503", {}), ("status 503", {"x-spillway-lane": DEDICATED}), ("broken", {})):
        visit = Visit(0.0, 503, dict(headers), failure=failure)
        story.listen(visit, Turn.ANSWERED, 1.0)
        story.listen(visit, Turn.ENDED, 1.0)
    assert story.failures == {"status 503": 2, "broken": 1}
    assert (story.requests, story.lanes[DEDICATED].answered) == (3, 0)
    assert not story.complete


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 2.0), (0.51, 3.0), (0.99, 4.0), (1.0, 4.0)])
def test_a_quantile_is_one_of_the_values(share: float, expected: float) -> None:
    assert quantile([4.0, 1.0, 3.0, 2.0], share) == expected
    assert quantile([], share) is None
