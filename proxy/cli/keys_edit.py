"""Puts a key into the text of a policy, or takes one out, and leaves every other character as it is.

Theory of operation
-------------------
The text is composed into nodes, which know where they begin and end; what is written goes between two of them, in the
manner of what stands there: a line of its own in a list that has an item a line, a word more between brackets. Nothing
is ever dumped, so comments, quotes and blank lines stay. YAML can be written in more ways than are known here; so the
result is read again, and is refused unless it says what the old text said, and the one thing more or less.
"""

from __future__ import annotations

from typing import Any

import yaml

from proxy.policy.document import Document, read_document
from proxy.policy.source import SourceFile
from proxy.policy.variables import Interpolated

Node = Any
"""A node of PyYAML, whose kinds share no types that would help here."""


class NotEditable(Exception):
    """The list of keys is written in a way that cannot be edited here; the text says what to do."""


def with_key(file: SourceFile, tenant: str, item: str) -> tuple[SourceFile, int]:
    """The file with `item`, which is YAML on one line, as the last key of `tenant`; and the line where it stands."""
    text = file.text
    _, keys = _keys_of(text, tenant)
    match keys:
        case yaml.SequenceNode(value=[]):
            edited = _spliced(text, keys.start_mark.index + 1, keys.start_mark.index + 1, item)
        case yaml.SequenceNode(flow_style=True):
            edited = _spliced(text, _end(keys.value[-1]), _end(keys.value[-1]), f", {item}")
        case yaml.SequenceNode():
            edited = _with_line(text, _line_end(text, _end(keys)), f"{' ' * keys.start_mark.column}- {item}")
        case _:
            lone = text[keys.start_mark.index : _end(keys)]
            edited = _spliced(text, keys.start_mark.index, _end(keys), f"[{lone}, {item}]")
    before = _said(file)["tenants"][tenant]["keys"]
    result = SourceFile(file.path, edited)
    _assert_says(result, file, tenant, [*before, _said(SourceFile("", f"key: {item}"))["key"]])
    return result, _read(result).place(("tenants", tenant, "keys", len(before))).line


def without_key(file: SourceFile, tenant: str, index: int) -> SourceFile:
    """The file without the key of `tenant` that stands at `index` in its list there.

    A proxy takes a text that is merely the beginning of the one that it serves for cut off, and serves on. So a text
    that would end where the key stood ends in a comment, which says that this is meant.
    """
    name, keys = _keys_of(file.text, tenant)
    match keys:
        case yaml.SequenceNode(flow_style=True):
            text = _spliced(file.text, *_span_in_brackets(file.text, keys, index), "")
        case yaml.SequenceNode():
            text = _without_line(file.text, name, keys, index)
        case _:
            text = _spliced(file.text, keys.start_mark.index, _end(keys), "[]")
    if file.text.startswith(text):
        text = _with_line(text, len(text), f"# a key of {tenant} was revoked here")
    edited = SourceFile(file.path, text)
    before = _said(file)["tenants"][tenant]["keys"]
    _assert_says(edited, file, tenant, before[:index] + before[index + 1 :])
    return edited


class _Same(dict[str, str]):
    """An environment in which every variable holds its own name: texts are compared, not what they mean."""

    def get(self, name: str, default: object = None) -> str:
        return name


def _read(file: SourceFile) -> Document:
    return read_document((file,), _Same())


def _said(file: SourceFile) -> dict[str, Any]:
    """What the file says, in values that can be compared."""
    said: dict[str, Any] = _plain(_read(file).root)
    return said


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return (value.shown,) if isinstance(value, Interpolated) else value


def _assert_says(edited: SourceFile, file: SourceFile, tenant: str, keys: list[Any]) -> None:
    wanted = _said(file)
    wanted["tenants"][tenant]["keys"] = keys
    if _said(edited) != wanted or _read(edited).problems:
        raise NotEditable(
            f"{file.path}: the keys of `{tenant}` are written in a way that is not edited safely"
            " (hint: write them one a line, each after `- `)"
        )


def _keys_of(text: str, tenant: str) -> tuple[Node, Node]:
    """The node of the word `keys` of the tenant, and that of what it holds."""
    node: Node = yaml.compose(text, Loader=yaml.CSafeLoader)
    key: Node = None
    for name in ("tenants", tenant, "keys"):
        key, node = next((key, value) for key, value in node.value if key.value == name)
    return key, node


def _end(node: Node) -> int:
    """Where the last word of `node` ends; by its own mark, a block ends only where the next thing begins."""
    if isinstance(node, yaml.ScalarNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)


def _spliced(text: str, start: int, end: int, between: str) -> str:
    return text[:start] + between + text[end:]


def _line_end(text: str, at: int) -> int:
    """The end of the line in which `at` is, before its line break."""
    end = text.find("\n", at)
    end = len(text) if end < 0 else end
    return end - 1 if text[:end].endswith("\r") else end


def _with_line(text: str, at: int, line: str) -> str:
    """A line more after the one that ends at `at`; the last line of a file ends in a line break like the others."""
    line_break = "\r\n" if "\r\n" in text else "\n"
    if at < len(text):
        return _spliced(text, at, at, line_break + line)
    return text + ("" if text.endswith("\n") or not text else line_break) + line + line_break


def _span_in_brackets(text: str, keys: Node, index: int) -> tuple[int, int]:
    """From where to where an item goes, with the comma that is one too many then; comments stay."""
    items = keys.value
    start, end = items[index].start_mark.index, _end(items[index])
    if index + 1 < len(items):
        following = items[index + 1].start_mark.index
        return start, text.index(",", end) + 1 if "#" in text[end:following] else following
    bracket = keys.end_mark.index - 1
    if index == 0:
        return start, end if "#" in text[end:bracket] else bracket
    before = _end(items[index - 1])
    if "#" not in text[before:start]:
        return before, end
    comma = text.find(",", end, bracket)
    return start, end if comma < 0 or "#" in text[end:comma] else comma + 1


def _without_line(text: str, name: Node, keys: Node, index: int) -> str:
    """Without the lines of one item; a list that loses its last becomes `[]`, for a key without a value is an error."""
    item = keys.value[index]
    dash = text.rfind("-", 0, item.start_mark.index)
    start = text.rfind("\n", 0, dash) + 1
    after = text.find("\n", _line_end(text, _end(item)))
    edited = _spliced(text, start, len(text) if after < 0 else after + 1, "")
    if len(keys.value) > 1:
        return edited
    colon = text.index(":", name.end_mark.index) + 1
    return _spliced(edited, colon, colon, " []")
