"""Instruction counts are read from perf's report, and a machine without counters is named as such."""

from __future__ import annotations

import pytest

from tests.bench.counters import counts
from tests.bench.installs import MissingError


def test_counts_are_read_by_the_space_they_were_counted_in() -> None:
    report = "4000,,instructions:u,100,100.00,1.0,insn per cycle\n3000,,instructions:k,100,100.00,,\n"
    assert counts(report) == {"user": 4000.0, "kernel": 3000.0}


def test_a_machine_without_counters_is_named_as_such() -> None:
    report = "<not supported>,,instructions:u,0,100.00,,\n<not supported>,,instructions:k,0,100.00,,\n"
    with pytest.raises(MissingError, match="no instruction counter"):
        counts(report)


def test_a_refusal_by_perf_is_passed_on() -> None:
    with pytest.raises(MissingError, match="No permission"):
        counts("Error:\nNo permission to enable instructions:u event.\n")
