from __future__ import annotations

import msgspec
import pytest
from proxy.meters.standing import BudgetStanding, RateStanding, Standing, State
from proxy.policy.model import Enforce, Per


def budget(**given: object) -> BudgetStanding:
    base: dict[str, object] = {
        "name": "growth-spill",
        "per": Per.DAY,
        "limit_nano_usd": 500,
        "spent_nano_usd": 100,
        "held_nano_usd": 50,
        "free_nano_usd": 350,
        "enforce": Enforce.HARD,
    }
    return BudgetStanding(**{**base, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "state"),
    [
        ({}, State.OPEN),
        ({"alert_percent": 50}, State.ALERT),
        ({"spent_nano_usd": 450, "free_nano_usd": 0, "alert_percent": 80}, State.EXHAUSTED),
        ({"free_nano_usd": -1}, State.EXHAUSTED),
        ({"known": False, "free_nano_usd": 0}, State.UNKNOWN),
    ],
)
def test_a_state_in_a_word(given: dict[str, object], state: State) -> None:
    assert budget(**given).state is state


def test_a_limit_of_nothing_is_used_up() -> None:
    assert budget(limit_nano_usd=0, spent_nano_usd=0).used_share == 1.0
    assert budget().used_share == 0.2


def test_it_comes_back_from_json_as_it_was() -> None:
    standing = Standing(
        budgets=(budget(window_start_s=1_700_000_000, resets_in_s=12.5), budget(per=Per.TOTAL)),
        rates=(RateStanding(scope="tenant bank", rate="rpm", limit=600, used=12, leased=37.5),),
        degraded={"meters": "the store is out of reach"},
    )
    assert msgspec.json.decode(msgspec.json.encode(standing), type=Standing) == standing
