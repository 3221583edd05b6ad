"""Says in plain words why libyaml could not read a text."""

from __future__ import annotations

import re

import yaml

from proxy.policy.checks import Check
from proxy.policy.problem import Problem
from proxy.policy.source import SourceFile, line_and_column

# libyaml's words -> ours, and the remedy. Looked up by what the message contains; the order matters.
_MEANINGS = (
    ("found a tab character", "a tab in the indent", "indent with spaces"),
    ("mapping values are not allowed", "a second `:` on one line, or a wrong indent", "quote text that holds `: `"),
    ("did not find expected ',' or '}'", "`{` is not closed, or a `,` is missing", "close it with `}`"),
    ("did not find expected ',' or ']'", "`[` is not closed, or a `,` is missing", "close it with `]`"),
    (
        "did not find expected node content",
        "a value is missing, or a bracket is not closed",
        "close it with `]` or `}`",
    ),
    ("unexpected end of stream", "a quote is not closed", "close it on the same line"),
    ("could not find expected ':'", "a key without a `:`", "write `key: value`"),
    ("did not find expected key", "the indent does not fit the lines above", "indent the keys of one mapping alike"),
    ("did not find expected '-' indicator", "a list and keys are mixed at one indent", "indent the list's items alike"),
    ("found undefined tag handle", "tags are not supported", "quote text that begins with `!`"),
    (
        "did not find expected alphabetic",
        "aliases and anchors are not supported",
        "quote text that begins with `*` or `&`",
    ),
)
_OPENED_BEFORE = ("while parsing a flow", "while scanning a quoted", "while scanning a simple key")


def explain_syntax(file: SourceFile, error: yaml.YAMLError) -> Problem:
    """The problem behind libyaml's `error`, placed where the author has to look."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return _control_character(file, error)
    words, mark = error.problem or "", error.problem_mark
    if error.context_mark is not None and (error.context or "").startswith(_OPENED_BEFORE):
        mark = error.context_mark
    line, column = mark.line + 1, mark.column + 1
    runaway = _runaway_quote(file.text)
    if runaway is not None:
        words, (line, column) = "unexpected end of stream", runaway
    message, hint = _meaning(words, _line(file.text, line - 1), column)
    return Problem(file.path, line, column, message, hint, Check.SYNTAX)


def _meaning(words: str, text: str, column: int) -> tuple[str, str]:
    indent = text[: len(text) - len(text.lstrip())]
    if "cannot start any token" in words:
        if "\t" in indent:
            return "a tab in the indent", "indent with spaces"
        first = text[column - 1 : column]
        return f"{'a tab' if first == chr(9) else f'`{first}`'} cannot begin a value", "put the value in quotes"
    if "did not find expected ','" in words and re.search(r"[{,\[][^'\"]*\$\{", text):
        return "`${...}` inside `{ }` or `[ ]` needs quotes", 'write `"${NAME}"`'
    for part, message, hint in _MEANINGS:
        if part in words:
            return message, hint
    return f"not valid yaml: {words.lower()}", "check the line above too"


def _runaway_quote(text: str) -> tuple[int, int] | None:
    """Line and column of a quoted text that ran over its line just before the error: its quote was forgotten."""
    found = None
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            start, end = event.start_mark, event.end_mark
            if isinstance(event, yaml.ScalarEvent) and event.style in ("'", '"') and start and end:
                found = (start.line + 1, start.column + 1) if start.line != end.line else None
    except yaml.YAMLError:
        return found
    return None


def _line(text: str, index: int) -> str:
    lines = text.splitlines()
    return lines[index] if index < len(lines) else ""


def _control_character(file: SourceFile, error: yaml.YAMLError) -> Problem:
    match = re.search(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", file.text)
    start = match.start() if match else 0
    line, column = line_and_column(file.text[:start])
    character = f"U+{ord(file.text[start]):04X}" if match else type(error).__name__
    message = f"character {character} is not allowed in yaml"
    return Problem(file.path, line, column, message, "remove it", Check.SYNTAX)
