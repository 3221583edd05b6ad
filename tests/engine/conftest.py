"""Brings in the fixtures that need a real engine."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("tests.engine.fixtures")
