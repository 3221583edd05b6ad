"""Every query of every panel, and every series that an alert looks at, has data in a real Prometheus.

It is filled by two proxies under a load that shows what the dashboards are for. What is waited for is the data itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from dashboards.model import Kind
from tests.dashboards import asked
from tests.prometheus.town import ALERTS, GPUS_PAID_FOR, PROMETHEUS, USD_PER_GPU_HOUR, Town, town

WITHIN_S = 75.0
ADDED = {"namespace", "job", "measure", "percentile"}
"""Labels that scraping or a recording rule adds."""


@pytest.mark.skipif(PROMETHEUS is None, reason="Prometheus is not installed (Debian: prometheus)")
async def test_everything_that_is_asked_is_answered(tmp_path: Path) -> None:
    """In one town, since it takes a while until there is something to see everywhere."""
    async with town(tmp_path) as living:
        await every_panel_has_data(living)
        await a_policy_that_is_adopted_is_marked(living)
        await every_series_that_an_alert_looks_at_is_there(living)
        await prometheus_evaluates_every_rule(living)
        await what_goes_wrong_here_is_told(living)
        await every_label_that_is_asked_for_exists(living)
        await what_two_proxies_tell_alike_counts_once(living)


def alert_rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def finite(result: list[dict[str, Any]]) -> bool:
    """Whether there is one figure at least."""
    values = [value for one in result for _, value in one.get("values", [one.get("value", (0, "nan"))])]
    return any(math.isfinite(float(value)) for value in values)


async def shows(living: Town, one: asked.Asked) -> bool:
    at_once = one.query.now or one.panel.kind in (Kind.TABLE, Kind.FIGURES)
    return finite(await (living.now(one.expr) if at_once else living.lately(one.expr)))


async def until_none(missing: list[Any], is_there: Callable[[Any], Awaitable[bool]]) -> list[Any]:
    """Ask for what is missing again and again; what still is when the time is over."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WITHIN_S):
            while missing := [one for one in missing if not await is_there(one)]:
                await asyncio.sleep(0.5)
    return missing


async def every_panel_has_data(living: Town) -> None:
    missing = await until_none(list(asked.queries()), lambda one: shows(living, one))
    assert [one.id for one in missing] == []


async def a_policy_that_is_adopted_is_marked(living: Town) -> None:
    before = {one["revision"] for one in await living.series("spillway_policy_info")}
    living.change_the_policy()

    async def marked(expr: str) -> bool:
        return bool({one["metric"]["revision"] for one in await living.lately(expr)} - before)

    assert await until_none(list(asked.annotations()), marked) == []


async def every_series_that_an_alert_looks_at_is_there(living: Town) -> None:
    rules = [rule for rule in alert_rules() if "alert" in rule]
    wanted = sorted({str(one).split("offset")[0] for rule in rules for one in asked.selectors(rule["expr"])})
    assert len(wanted) > len(rules)

    async def has_series(selector: str) -> bool:
        return bool(await living.series(selector))

    assert await until_none(wanted, has_series) == []


async def prometheus_evaluates_every_rule(living: Town) -> None:
    async def evaluated(_: str) -> bool:
        return {rule["health"] for rule in await living.rules()} == {"ok"}

    assert await until_none(["rules"], evaluated) == []
    assert len(await living.rules()) == len(alert_rules())


async def what_goes_wrong_here_is_told(living: Town) -> None:
    """Those alerts that wait for nothing; of the others the first sign is seen."""

    async def told(name: str) -> bool:
        return bool(await living.now(f'ALERTS{{alertname="{name}"}}'))

    expected = ["SpillwayRequestsUnpriced", "SpillwayBudgetSpent", "SpillwayWakeFailing", "SpillwayTargetDown"]
    assert await until_none(expected, told) == []


async def every_label_that_is_asked_for_exists(living: Town) -> None:
    exprs = [*(one.expr for one in asked.queries()), *asked.annotations(), *(rule["expr"] for rule in alert_rules())]

    async def exists(name_and_label: tuple[str, str]) -> bool:
        name, label = name_and_label
        return label in ADDED or any(label in one for one in await living.series(name))

    assert await until_none(sorted({one for expr in exprs for one in asked.matched(expr)}), exists) == []
    every = {label for one in await living.series('{__name__=~"spillway.*"}') for label in one} | ADDED
    assert {label for expr in exprs for label in asked.joined(expr)} - every == set()


async def what_two_proxies_tell_alike_counts_once(living: Town) -> None:
    """And its parts are the whole: GPUs at work and idle ones, in number and in money."""

    async def adds_up(title_and_whole: tuple[str, float]) -> bool:
        title, whole = title_and_whole
        parts = [one for one in asked.queries() if one.panel.title == title and one.query.legend != "providers"]
        shown = [float(found[0]["value"][1]) for one in parts if (found := await living.now(one.expr))]
        return len(shown) == len(parts) == 2 and sum(shown) == pytest.approx(whole, rel=0.1)

    wholes = [("GPUs paid for", GPUS_PAID_FOR), ("Dollars per hour", GPUS_PAID_FOR * USD_PER_GPU_HOUR)]
    assert await until_none(wholes, adds_up) == []
