from __future__ import annotations

import logging
import sys

import pytest
from proxy.telemetry import traces

HERE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
NAMES = ("OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_BSP_MAX_QUEUE_SIZE")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, *traces.ENDPOINTS):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {"OTEL_SERVICE_NAME": "spillway"},
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:9"},
        {**HERE, "OTEL_SDK_DISABLED": "TRUE"},
        {**HERE, "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nobody_makes_spans_unless_an_endpoint_is_named(env: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    assert traces.opened(env) is None
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"OTEL_TRACES_EXPORTER": "console"}, "OTEL_TRACES_EXPORTER"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, "http/json"),
    ],
)
def test_what_is_asked_for_and_not_to_be_had_is_said(
    more: dict[str, str], word: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert traces.opened({**HERE, **more}) is None
    (message,) = caplog.messages
    assert word in message


async def test_either_endpoint_will_do() -> None:
    for name in traces.ENDPOINTS:
        made = traces.opened({name: "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "otlp,console"})
        assert made is not None
        await made.aclose()


def test_without_the_extra_one_warning_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delitem(sys.modules, "proxy.telemetry.traces_otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.context", None)
    assert traces.opened(HERE) is None
    (message,) = caplog.messages
    assert message.startswith("`OTEL_EXPORTER_OTLP_ENDPOINT` is set, but OpenTelemetry is not installed")
    assert "pip install 'spillway-proxy[otel]'" in message


@pytest.mark.parametrize("size", ["many", "0", "-1"])
def test_variables_that_make_no_sense_keep_nobody_from_serving(
    size: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, traces.__name__)
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", size)
    assert traces.opened(HERE) is None
    assert [message for message in caplog.messages if "the OTEL_* variables do not make sense" in message]
