"""Rewrites what cases expect to what the router says, and nothing else in their file.

Theory of operation
-------------------
The text is composed once more, for the marks at which each value begins and ends, and only the values that do not hold
any more are replaced between their marks: comments, order and layout of the rest stay byte for byte. A key that was
stated stays stated. Where that makes no sense, because a plan has become a refusal or the other way round, or because
nothing was stated, the whole `expect` is written anew with the keys that say most.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from proxy.cases.case import Result
from proxy.cases.expect import ASPECTS, Expected
from proxy.routing.plan import Decision, Plan

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_NOT_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})

Edit = tuple[int, int, str]
"""From, to, and what stands there then; in characters."""


def updated(text: str, results: Iterable[Result]) -> str:
    """The text of a file of cases with every `expect` as the router has it. `results` are those of this file."""
    # Composing builds nodes, never objects: it is as safe as reading events.
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert root is not None, "a file without cases has no results"
    cases = _member(root, "cases").value
    edits = [edit for result in results for edit in _edits(result, _member(cases[result.case.index], "expect"), text)]
    for start, end, words in sorted(edits, reverse=True):
        text = text[:start] + words + text[end:]
    return text


def restated(expected: Expected, decision: Decision) -> dict[str, Any] | None:
    """The keys that have to change, with what the router says; None when all of `expect` is to be written anew.

    A request that comes to no route has none to state.
    """
    kind, routeless = type(decision), "route" in expected and not decision.route
    if not expected or routeless or any(ASPECTS[name].of not in (None, kind) for name in expected):
        return None
    said = {name: (ASPECTS[name], stated, ASPECTS[name].said(decision)) for name, stated in expected.items()}
    return {
        name: _restated(name, stated, now)
        for name, (aspect, stated, now) in said.items()
        if not aspect.holds(stated, now)
    }


def anew(decision: Decision) -> dict[str, Any]:
    """What says most about a decision in the fewest keys."""
    names = ("route", "attempts", "cause") if isinstance(decision, Plan) else ("route", "refused")
    said = {name: _restated(name, None, ASPECTS[name].said(decision)) for name in names}
    return {name: value for name, value in said.items() if value}


def spelled(value: object) -> str:
    """A value as YAML on one line, in quotes only where it would be read as something else."""
    if isinstance(value, bool | int):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{spelled(name)}: {spelled(item)}' for name, item in value.items())}}}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(spelled, value))}]"
    word = str(value)
    is_plain = _PLAIN.fullmatch(word) and word.lower() not in _NOT_WORDS
    return word if is_plain else json.dumps(word, ensure_ascii=False)


def _restated(name: str, stated: Any, said: Any) -> Any:
    """What is to be stated, given what the router says: each key has its own way to be short."""
    if name == "refused":
        rule, code = said
        return code if stated is None else rule
    if name == "not":
        return tuple(target for target in stated if target not in said)
    if name in ("excluded", "shadow"):
        return {subject: rules[0] if len(rules) == 1 else rules for subject, rules in said.items()}
    return said


def _edits(result: Result, node: yaml.Node, text: str) -> list[Edit]:
    changes = restated(result.case.expected, result.decision)
    if changes is None:
        return [_edit(node, anew(result.decision), text)]
    return [_edit(_member(node, name), value, text) for name, value in changes.items()]


def _edit(node: yaml.Node, value: Any, text: str) -> Edit:
    """The edit that puts `value` in the place of `node`, in the node's own style where it has one."""
    start, end = node.start_mark.index, _end(node)
    is_block = isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value
    if not is_block or not isinstance(value, Mapping | tuple) or not value:
        return start, end, spelled(value)
    indent = ("\r\n" if "\r\n" in text else "\n") + " " * node.start_mark.column
    if isinstance(value, Mapping):
        return start, end, indent.join(f"{spelled(name)}: {spelled(item)}" for name, item in value.items())
    return start, end, indent.join(f"- {spelled(item)}" for item in value)


def _end(node: yaml.Node) -> int:
    """Where the last character of the node stands: the end mark of a block lies behind the comments after it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(node, yaml.MappingNode) else last)
    end: int = node.end_mark.index
    return end


def _member(node: yaml.Node, name: str) -> yaml.Node:
    assert isinstance(node, yaml.MappingNode)
    found: yaml.Node = next(value for key, value in node.value if key.value == name)
    return found
