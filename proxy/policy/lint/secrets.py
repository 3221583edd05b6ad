"""Looks for keys in the text of a policy, where nothing but the names of variables and digests belong.

Theory of operation
-------------------
Two signs: what begins like a key of a known kind, anywhere in the text, comments included; and what looks drawn by lot,
in values: a long run of letters and digits of all kinds with as much entropy as base64 has. Model names and addresses
are runs of words between separators, so they are short. What is found is never repeated.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from proxy.policy.checks import Check
from proxy.policy.document import Loc
from proxy.policy.findings import Findings
from proxy.policy.problem import Problem

SHORTEST_RANDOM = 24
BITS_OF_A_RANDOM_CHARACTER = 3.5
BITS_OF_A_RANDOM_HEX_DIGIT = 3.0
_KINDS = re.compile(
    r"(?<![A-Za-z0-9_-])(?:"
    r"(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}"  # OpenAI, Anthropic, OpenRouter, Stripe
    r"|(?:gsk|hf|xai|pplx|r8|fw|nvapi|tgp|csk|ghp|gho|glpat|xox[abp])[-_][A-Za-z0-9_-]{16,}"
    r"|AKIA[0-9A-Z]{16}"  # AWS
    r"|AIza[0-9A-Za-z_-]{30,}"  # Google
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"  # a JSON web token
    r"|(?i:bearer)\s+[A-Za-z0-9._~+/-]{12,}"
    r")|-----BEGIN [A-Z ]*PRIVATE KEY"
)
_RUN = re.compile(rf"[A-Za-z0-9+]{{{SHORTEST_RANDOM},}}")
_HEX = re.compile(r"[0-9a-f]{32,}|[0-9A-F]{32,}")
_DIGEST = re.compile(r"sha256:[0-9a-fA-F]{64}")
_HINT = "take it out of the file and out of its history, revoke it, and write `${NAME}`"


def lint_secrets(root: dict[str, object], texts: dict[str, str], findings: Findings) -> None:
    """Say where in the texts, by their paths, or in the values below `root` something looks like a key."""
    found = {(path, line): column for path, text in texts.items() for line, column in _known_kinds(text)}
    for (path, line), column in found.items():
        message = "this line holds what looks like a key"
        findings.note(Problem(path, line, column, message, _HINT, Check.LOOKS_LIKE_SECRET))
    for loc, value in _values(root, ()):
        place = findings.place(loc)
        if (place.path, place.line) not in found and looks_random(value, is_url="url" in loc or "urls" in loc):
            message = f"{_named(loc)} holds what looks like a key"
            findings.warning(Check.LOOKS_LIKE_SECRET, loc, message, _HINT, key=False)


def looks_random(value: str, *, is_url: bool = False) -> bool:
    """Whether some part of the value was probably drawn by lot. A hexadecimal part of a URL is an account's number."""
    return any(_is_random(run[0], is_url) for run in _RUN.finditer(_DIGEST.sub("", value)))


def _is_random(run: str, is_url: bool) -> bool:
    kinds = (any(map(kind, run)) for kind in (str.isdigit, str.islower, str.isupper))
    shares = [count / len(run) for count in Counter(run).values()]
    entropy = -sum(share * math.log2(share) for share in shares)
    if _HEX.fullmatch(run):
        return not is_url and entropy >= BITS_OF_A_RANDOM_HEX_DIGIT
    return all(kinds) and entropy >= BITS_OF_A_RANDOM_CHARACTER


def _known_kinds(text: str) -> Iterator[tuple[int, int]]:
    """Line and column of each line's first key of a known kind."""
    for number, line in enumerate(text.splitlines(), 1):
        match = _KINDS.search(line)
        if match:
            yield number, match.start() + 1


def _values(value: object, loc: Loc) -> Iterator[tuple[Loc, str]]:
    if isinstance(value, str):
        yield loc, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _values(item, (*loc, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _values(item, (*loc, index))


def _named(loc: Loc) -> str:
    return f"`{'.'.join(str(part) for part in loc if isinstance(part, str))}`"
