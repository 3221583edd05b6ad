"""The figures of an engine."""

from __future__ import annotations

from dataclasses import replace

import pytest
from proxy.simulator.profile import PROFILES

KNOWN = PROFILES["70b-fp8-2xh100"]


@pytest.mark.parametrize("broken", [{"step_s": 0}, {"decode_s": -1e-9}, {"max_seqs": 4096}, {"kv_tokens": 1}])
def test_a_profile_that_makes_no_sense_is_refused(broken: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=KNOWN.name):
        replace(KNOWN, **broken)


def test_a_built_in_profile_is_found_by_its_own_name() -> None:
    assert all(profile.name == name for name, profile in PROFILES.items())
    assert len(PROFILES) == 3
