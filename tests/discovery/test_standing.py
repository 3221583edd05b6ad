"""When a source counts as up, and when its silence is worth a line in the log."""

from __future__ import annotations

import logging

import pytest
from proxy.discovery.standing import SILENT_AFTER, Standing


class Clock:
    now = 5.0

    def __call__(self) -> float:
        return self.now


def test_before_the_first_answer_it_is_not_up() -> None:
    standing = Standing("the DNS name `vllm`", Clock())
    assert not standing.up
    standing.failed("no answer")
    assert (standing.up, standing.trouble) == (False, "no answer")


def test_one_failure_is_nothing_and_two_are_down() -> None:
    clock = Clock()
    standing = Standing("the DNS name `vllm`", clock)
    standing.confirmed()
    standing.failed("no answer")
    assert (standing.up, standing.as_of) == (True, 5.0)
    standing.failed("no answer")
    assert not standing.up
    clock.now = 9.0
    standing.confirmed()
    standing.sound()
    assert (standing.up, standing.as_of, standing.trouble) == (True, 9.0, "")


def test_silence_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    standing = Standing("the DNS name `vllm`", Clock())
    standing.confirmed()
    for _ in range(2 * SILENT_AFTER):
        standing.failed("no answer")
    standing.sound()
    standing.sound()
    assert caplog.messages == [
        "the DNS name `vllm` does not say where its replicas are, what it said holds on: no answer",
        "the DNS name `vllm` says again where its replicas are",
    ]


def test_it_says_when_nothing_is_known(caplog: pytest.LogCaptureFixture) -> None:
    standing = Standing("the DNS name `vllm`", Clock())
    for _ in range(SILENT_AFTER):
        standing.failed("no answer")
    assert "none is known" in caplog.text
