"""Brings in the engine and the proxy of `tests/engine`."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("tests.engine.fixtures")
