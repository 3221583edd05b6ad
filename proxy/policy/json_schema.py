"""The JSON Schema of a policy file, made from the shapes that read it: editors complete keys and mark mistakes with it.

Theory of operation
-------------------
The readers of `shape` are walked as they would walk a policy; each shape becomes a definition, each leaf a fragment
(`json_schema_leaves`), and each key carries its sentence (`key_sentences`). The schema takes what the loader takes; it
refuses unknown keys, keys that are missing, values of the wrong form, and keys that do not fit a target's lane.
"""

from __future__ import annotations

from dataclasses import MISSING
from typing import Any

from proxy.policy import sections
from proxy.policy.discovery_terms import PLACES
from proxy.policy.json_schema_leaves import NAME, VARIABLE, Fragment, leaf, title_of
from proxy.policy.key_sentences import SECTIONS, SENTENCES
from proxy.policy.model import Lane
from proxy.policy.schema import TargetSpec
from proxy.policy.shape import Listed, One, Reader, RuleOf, Shaped
from proxy.policy.targets import MISFITS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_VARIABLE = {"$ref": "#/$defs/variable"}
_NEEDS = {Lane.DEDICATED: PLACES, Lane.SHARED: ("provider", "url")}


def policy_schema() -> dict[str, Any]:
    """The schema of a whole policy."""
    made = _Schema()
    named: dict[str, Reader] = {"targets": sections.TARGET, "models": sections.CANDIDATES, "tenants": sections.TENANT}
    properties: dict[str, Fragment] = {
        "version": {"const": sections.VERSION},
        "auth": {"const": "none"},
        "routes": {"type": "array", "items": made.of(sections.ROUTE), "minItems": 1},
        "budgets": {"type": "array", "items": made.of(sections.BUDGET), "minItems": 1},
    }
    for section, member in named.items():
        properties[section] = {
            "type": "object",
            "propertyNames": NAME,
            "additionalProperties": made.of(member),
            "minProperties": 1,
        }
    return {
        "$schema": DIALECT,
        "title": "Spillway policy",
        "type": "object",
        "properties": {name: {"description": SECTIONS[name], **properties[name]} for name in sections.SECTIONS},
        "required": ["version", "targets", "models"],
        "additionalProperties": False,
        "$defs": {"variable": VARIABLE, **dict(sorted(made.definitions.items()))},
    }


class _Schema:
    """Collects the definitions of the shapes that it meets."""

    def __init__(self) -> None:
        self.definitions: dict[str, Fragment] = {}

    def of(self, reader: Reader) -> Fragment:
        """What `reader` takes."""
        if isinstance(reader, One):
            title = title_of(reader.parse)
            self.definitions.setdefault(title, leaf(reader.parse, _VARIABLE))
            return {"$ref": f"#/$defs/{title}"}
        if isinstance(reader, Listed):
            return self._list(reader)
        if isinstance(reader, RuleOf):
            return self._rule(reader)
        assert isinstance(reader, Shaped), reader
        return self._shape(reader)

    def _list(self, reader: Listed) -> Fragment:
        member = self.of(reader.member)
        many: Fragment = {"type": "array", "items": member}
        if not reader.may_be_empty:
            many["minItems"] = 1
        return {"anyOf": [member, many]} if reader.or_one else many

    def _rule(self, reader: RuleOf) -> Fragment:
        value = self.of(reader.value)
        tried = {
            "description": "the rule with a mode of its own",
            "type": "object",
            "properties": {"is": value, "mode": self.of(reader.mode)},
            "required": ["is"],
            "additionalProperties": False,
        }
        return {"anyOf": [value, tried]}

    def _shape(self, reader: Shaped) -> Fragment:
        name = reader.shape.__name__.removesuffix("Spec").lower()
        if name not in self.definitions:
            self.definitions[name] = {}  # its place, should it hold itself
            self.definitions[name] = self._definition(reader)
        whole: Fragment = {"$ref": f"#/$defs/{name}"}
        if reader.shorthand is None:
            return whole
        return {"anyOf": [self.of(reader.keys[reader.shorthand].metadata["read"]), whole]}

    def _definition(self, reader: Shaped) -> Fragment:
        sentences = SENTENCES[reader.shape]
        definition: Fragment = {
            "type": "object",
            "properties": {
                name: {**self.of(key.metadata["read"]), "description": sentences[name]}
                for name, key in reader.keys.items()
            },
            "additionalProperties": False,
        }
        required = [name for name, key in reader.keys.items() if key.default is MISSING]
        if required:
            definition["required"] = required
        if reader.shape is TargetSpec:
            definition["allOf"] = [_for_lane(lane) for lane in Lane]
        return definition


def _for_lane(lane: Lane) -> Fragment:
    """A target of the lane lacks the keys that do not fit it, and has one of those that say where it is."""
    return {
        "if": {"properties": {"lane": {"const": lane.value}}, "required": ["lane"]},
        "then": {
            "properties": dict.fromkeys(MISFITS[lane], False),
            "anyOf": [{"required": [key]} for key in _NEEDS[lane]],
        },
    }
