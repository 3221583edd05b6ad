"""What a scenario says."""

from __future__ import annotations

from proxy.advisor.scenario import PLAIN, Scenario, Span


def test_a_span_has_its_beginning_and_not_its_end() -> None:
    span = Span(from_s=1.0, to_s=2.0)
    assert [span.covers(at_s) for at_s in (0.99, 1.0, 1.99, 2.0)] == [False, True, True, False]


def test_nothing_is_wrong_unless_something_is_said() -> None:
    assert Scenario(proxies=1, queue_limit=None, shared_tokens_per_minute=None, shared_down=(), slowdowns=()) == PLAIN
