"""Whether spans are made of requests, and for whom: OpenTelemetry's standard variables say so.

Theory of operation
-------------------
A span is made once a request is over, from its record, together with the metrics and the log line; the path of the
request pays only for ids, and for asking the sampler, which has to be done before an upstream is told (`traces_otlp`).
All of OpenTelemetry is imported only where an endpoint is named, and never needed to serve.

Which variables: the specification's, https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Protocol

from proxy.routing.trace_context import Headers, TraceContext
from proxy.telemetry.records import Record

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SPOKEN = "http/protobuf"
_EXTRA = "opentelemetry"
_log = logging.getLogger(__name__)


class Traces(Protocol):
    """Who makes spans of requests, and sends them off."""

    def begin(self, headers: Headers, fields: Mapping[bytes, bytes]) -> TraceContext:
        """The place in a trace of a request that has just come, with these headers, which are also given by name."""
        ...

    def record(self, records: Iterable[Record]) -> None:
        """Make spans of requests that are over."""

    @property
    def dropped(self) -> int:
        """Spans that nobody got."""
        ...

    async def aclose(self) -> None:
        """Send off what is left, within a few seconds."""


def opened(env: Mapping[str, str]) -> Traces | None:
    """Who makes spans, as the variables in `env` have it; None where nobody does. What is wrong with them is logged.

    The SDK reads the process's environment itself: `env` has to be that, but for what decides whether it is asked.
    """
    if not _wanted(env):
        return None
    try:
        from proxy.telemetry.traces_otlp import Exported  # noqa: PLC0415  (slow to import, and not always installed)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != _EXTRA:
            raise
        _log.warning(
            "`%s` is set, but OpenTelemetry is not installed: no traces are made"
            " (hint: pip install 'spillway-proxy[otel]')",
            _first(env, ENDPOINTS)[0],
        )
        return None
    try:
        return Exported()
    except (ValueError, RuntimeError, ImportError, OSError) as error:
        _log.warning("no traces are made: the OTEL_* variables do not make sense: %s", error)
        return None


def _wanted(env: Mapping[str, str]) -> bool:
    """Whether there is an endpoint, and nothing says that it is for others."""
    if not _first(env, ENDPOINTS)[1] or env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporters = {name.strip() for name in env.get("OTEL_TRACES_EXPORTER", "").split(",")} - {""}
    if exporters and "otlp" not in exporters:
        if exporters != {"none"}:
            _log.warning("`OTEL_TRACES_EXPORTER` has no `otlp`, the only one there is: no traces are made")
        return False
    variable, protocol = _first(env, _PROTOCOLS)
    if protocol not in ("", _SPOKEN):
        _log.warning(
            "`%s` asks for `%s`, and only `%s` is spoken: no traces are made (hint: port 4318 of most collectors)",
            variable,
            protocol,
            _SPOKEN,
        )
        return False
    return True


def _first(env: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, str]:
    """The first of the variables that is set to something, and to what."""
    return next(((name, value) for name in names if (value := env.get(name, "").strip())), ("", ""))
