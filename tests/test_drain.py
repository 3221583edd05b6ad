"""What each signal asks of a server, and when the stages of its end are over."""

from __future__ import annotations

import math
import signal

import pytest
from proxy.drain import ECHO_S, INTERRUPT_DRAIN_S, Drain

TERM, INT = signal.SIGTERM, signal.SIGINT


def told(*signals: tuple[int, float], delay_s: float = 5.0, drain_s: float = 60.0) -> Drain:
    """A server's end after these signals at these times."""
    drain = Drain(delay_s, drain_s)
    for number, at in signals:
        drain.told(number, at)
    return drain


def test_until_a_signal_comes_it_serves() -> None:
    drain = told()
    assert not drain.begun
    assert drain.accepts_until == drain.cut_at == drain.waits_until == math.inf
    assert drain.is_patient(1e9)


def test_an_orchestrator_gets_the_delay_and_then_the_drain() -> None:
    drain = told((TERM, 100.0))
    assert drain.begun
    assert (drain.accepts_until, drain.cut_at) == (105.0, 165.0)
    assert drain.is_patient(164.9)
    assert not drain.is_patient(165.0)


def test_who_waits_for_room_leaves_half_of_the_drain_for_the_answer() -> None:
    assert told((TERM, 100.0)).waits_until == 135.0


def test_a_terminal_gets_neither() -> None:
    drain = told((INT, 100.0))
    assert (drain.accepts_until, drain.cut_at) == (100.0, 100.0 + INTERRUPT_DRAIN_S)
    assert not drain.is_patient(100.0)


def test_a_drain_shorter_than_a_terminals_is_not_made_longer() -> None:
    assert told((INT, 100.0), drain_s=0.5).cut_at == 100.5


@pytest.mark.parametrize("second", [TERM, INT])
def test_a_second_signal_hurries_and_a_third_ends_it(second: int) -> None:
    drain = told((TERM, 100.0), (second, 102.0))
    assert (drain.accepts_until, drain.cut_at) == (102.0, 102.0 + INTERRUPT_DRAIN_S)
    drain.told(second, 103.5)
    assert drain.cut_at == 103.5


def test_ctrl_c_twice_ends_it_however_fast() -> None:
    assert told((INT, 100.0), (INT, 100.01)).cut_at == 100.01


def test_nothing_that_comes_late_puts_the_end_off() -> None:
    drain = told((TERM, 100.0), (INT, 164.5), (INT, 164.7), (TERM, 300.0))
    assert drain.accepts_until == 105.0
    assert drain.cut_at == 164.7


def test_a_sigterm_that_comes_twice_at_once_is_one() -> None:
    """As from systemd, and from the parent of workers that systemd has told, too."""
    drain = told((TERM, 100.0), (TERM, 100.0 + ECHO_S / 2))
    assert (drain.accepts_until, drain.cut_at) == (105.0, 165.0)
    drain.told(TERM, 100.0 + 2 * ECHO_S)
    assert drain.accepts_until == 100.0 + 2 * ECHO_S


def test_without_a_delay_it_turns_newcomers_away_at_once() -> None:
    assert told((TERM, 100.0), delay_s=0.0).accepts_until == 100.0
