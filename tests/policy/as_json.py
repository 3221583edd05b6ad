"""Policies as an editor sees them: plain values, held against the JSON schema."""

from __future__ import annotations

from typing import Any

import jsonschema
from proxy.policy.document import read_document
from proxy.policy.json_schema import policy_schema
from proxy.policy.source import SourceFile
from proxy.policy.variables import Interpolated

SCHEMA = policy_schema()
_VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


class _Anything(dict[str, str]):
    def get(self, name: str, default: object = None) -> str:
        return "set"


def instance(files: tuple[SourceFile, ...]) -> Any:
    """The values of a policy, with its variables as they are written."""
    return _plain(read_document(files, _Anything()).root)


def schema_errors(value: Any) -> list[str]:
    """What the schema has against `value`."""
    return [error.message for error in _VALIDATOR.iter_errors(value)]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.shown if isinstance(value, Interpolated) else value
