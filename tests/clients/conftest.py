"""Brings in the engine and the proxy of `tests/engine`."""

from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "engine: needs a real vLLM, installed by `python -m tests.engine.install`")
    config.pluginmanager.import_plugin("tests.engine.fixtures")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("engine")
