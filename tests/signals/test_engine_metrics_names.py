"""The names of the engines' metrics, held against the engines that are here."""

from __future__ import annotations

from proxy.policy.model import Engine
from proxy.signals import engine_metrics_names as names
from proxy.signals.engine_metrics_names import DIALECTS


def test_every_engine_that_publishes_metrics_has_a_dialect_that_counts_its_requests() -> None:
    assert set(DIALECTS) == set(Engine) - {Engine.OPENAI}
    for dialect in DIALECTS.values():
        assert {names.RUNNING, names.WAITING} <= set(dialect.names.values())
        assert dialect.hint
        assert all(path.startswith("/") for path in dialect.paths)


def test_an_engine_whose_gauges_stand_still_when_idle_shows_its_work_otherwise() -> None:
    late = [dialect for dialect in DIALECTS.values() if dialect.lag_s]
    assert late
    assert all(names.PULSE in dialect.names.values() for dialect in late)
