"""`${NAME}` in a policy: values that come from the environment, and must not leave it again.

Theory of operation
-------------------
A value that held a variable becomes an `Interpolated`, which is deliberately not a `str`: printed in any way it shows
the text of the file (`${OPENAI_API_KEY}`), and only a reader that means to use the value takes `.value`. Replacement
happens after YAML is parsed, so a variable cannot inject structure; a replaced value is not scanned again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from proxy.policy.problem import Mistake, printable

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
SHORTEST_SECRET = 8
_ANYTHING = re.compile(r"\$\{[^}]*\}?")


class Interpolated:
    """A value out of the environment (`value`) and the text that stands for it everywhere else (`shown`).

    `variables` are the environment variables in it, with their values.
    """

    __slots__ = ("shown", "value", "variables")

    def __init__(self, value: str, shown: str, variables: Mapping[str, str] | None = None) -> None:
        self.value = value
        self.shown = shown
        self.variables = variables or {}

    def __repr__(self) -> str:
        return self.shown


def interpolate(text: str, env: Mapping[str, str]) -> tuple[Interpolated, list[Mistake]]:
    """Replace each `${NAME}` in `text`; a name that is malformed, unset or empty is a mistake and becomes nothing."""
    mistakes: list[Mistake] = []
    variables: dict[str, str] = {}

    def replace(found: re.Match[str]) -> str:
        match = VARIABLE.fullmatch(found[0])
        if match is None:
            hint = "write `${NAME}`: letters, digits and `_`, nothing else"
            mistakes.append(Mistake(f"`{found[0]}` does not name an environment variable", hint))
            return ""
        value = env.get(match[1])
        if not value:
            state = "not set" if value is None else "empty"
            mistakes.append(Mistake(f"environment variable `{match[1]}` is {state}", f"export {match[1]}=..."))
            return ""
        variables[match[1]] = value
        return value

    value = _ANYTHING.sub(replace, text)
    return Interpolated(value, text, variables), mistakes


def hidden(text: str, variables: Mapping[str, str]) -> str:
    """`text` with the value of every variable put back to its `${NAME}`; a value too short to be a secret stays."""
    for name, value in variables.items():
        if len(value) >= SHORTEST_SECRET:
            text = text.replace(value, f"${{{name}}}")
    return text


def revealed(value: object) -> object:
    """`value` as a reader needs it: what the environment held, or the value itself."""
    return value.value if isinstance(value, Interpolated) else value


def shown(value: object) -> str:
    """`value` for a message: short, in backticks when it is text, and never what the environment held."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    spelled = printable(str(value))
    return f"`{spelled[:57]}...`" if len(spelled) > 60 else f"`{spelled}`"
