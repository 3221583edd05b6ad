"""The table of values in the chart's README, made from values.yaml: one row for each line that begins with `# --`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import yaml
from tests.helm.chart import CHART

README = CHART / "README.md"
BEGIN, END = "<!-- values: begin -->\n", "<!-- values: end -->\n"
_KEY = re.compile(r"( *)([A-Za-z]+):")


def rows(values: str) -> Iterator[tuple[str, object, str]]:
    """(key, default, what it is for), in the order of the file."""
    parsed = yaml.safe_load(values)
    above: list[str] = []
    said = ""
    for line in values.splitlines():
        if (comment := line.strip()).startswith("# -- "):
            said = comment.removeprefix("# -- ")
            continue
        found = _KEY.match(line)
        if found is None:
            continue
        above = [*above[: len(found[1]) // 2], found[2]]
        if said:
            yield ".".join(above), _at(parsed, above), said
            said = ""


def _at(values: object, keys: list[str]) -> object:
    for key in keys:
        assert isinstance(values, dict)
        values = values[key]
    return values


def table(values: str) -> str:
    lines = ["| value | default | |", "|---|---|---|"]
    for key, default, said in rows(values):
        shown = json.dumps(default, ensure_ascii=False)
        lines.append(f"| `{key}` | `{shown}` | {said.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def renewed() -> str:
    """The README with the table as it should be."""
    before, _, rest = README.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    return before + BEGIN + table((CHART / "values.yaml").read_text()) + END + after
