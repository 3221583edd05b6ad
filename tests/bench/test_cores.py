"""Fewer cores are shared as sensibly as they can be, and the report says so."""

from __future__ import annotations

import pytest

from tests.bench.cores import Layout


def test_four_cores_give_each_part_its_own() -> None:
    layout = Layout.over({0, 1, 2, 3, 4, 5})
    assert (layout.upstream, layout.system, layout.generator, layout.driver) == (0, 1, 2, 3)
    assert not layout.compromise


@pytest.mark.parametrize("cores", [{4, 5, 6}, {2, 7}])
def test_the_system_under_test_keeps_a_core_to_itself_while_there_are_two(cores: set[int]) -> None:
    layout = Layout.over(cores)
    assert layout.system not in {layout.upstream, layout.generator, layout.driver}
    assert layout.compromise.startswith(f"{len(cores)} cores")


def test_one_core_is_shared_by_all_and_said_to_be_no_comparison() -> None:
    layout = Layout.over([3])
    assert {layout.upstream, layout.system, layout.generator, layout.driver} == {3}
    assert "no figure compares" in layout.compromise
