"""Whatever a policy file holds, the loader answers with a snapshot or with problems that can be found in the text.

100,000 texts in four parts, the same ones each time; for others:
`SPILLWAY_TEST_INPUTS=1000000 SPILLWAY_TEST_SEED=7 make test-fuzz`.
"""

from __future__ import annotations

import os
import random
import re
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from proxy.policy.compile import check_source
from proxy.policy.lint.lint import lint
from proxy.policy.problem import PolicyError, Problem
from proxy.policy.source import Source, SourceFile, decode
from tests.fuzz.mutations import Mutator
from tests.policy.as_json import SCHEMA, instance, schema_errors
from tests.policy.corpus import BROKEN, DOUBTFUL
from tests.policy.policies import no_price

INPUTS = int(os.environ.get("SPILLWAY_TEST_INPUTS", "100000"))
SEED = int(os.environ.get("SPILLWAY_TEST_SEED", "0"))
PARTS = 4
MOST_CPU_S = 2.0
CANARY = "c4n4ry"
POLICIES = Path(__file__).parents[2] / "policies"
GOOD = sorted(path for path in POLICIES.rglob("*.yaml") if not path.name.endswith(".test.yaml"))
_BREAKS = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


class Environment(dict[str, str]):
    """Holds a secret under every name but one; each can stand for the digest of a key."""

    def get(self, name: str, default: object = None) -> str:
        return "" if name == "MISSING" else f"{CANARY}-{name}".encode().hex().ljust(64, "0")[:64]


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in the block once it has computed for so long."""

    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"computed for {seconds:g} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def told(parts: list[bytes]) -> tuple[bool, tuple[Problem, ...]]:
    """(whether a policy in so many files may be served, all that is said of it). What may be served fits the schema."""
    files = [decode(path_of(number), data) for number, data in enumerate(parts)]
    unread = tuple(one for one in files if isinstance(one, Problem))
    if unread:
        return False, unread
    source = Source("policy", tuple(one for one in files if isinstance(one, SourceFile)), "0" * 64)
    try:
        compiled = check_source(source, env=Environment(), price_of=no_price)
    except PolicyError as error:
        assert error.problems
        return False, error.problems
    assert compiled.snapshot.routes
    assert compiled.snapshot.models
    assert schema_errors(instance(source.files)) == []
    return True, lint(compiled)


def path_of(number: int) -> str:
    return f"policy/{number}.yaml"


def in_parts(text: bytes, chance: random.Random) -> list[bytes]:
    """The text in one file, or now and then in two, cut where a section may begin."""
    cuts = [match.start() for match in re.finditer(rb"^\w", text, re.MULTILINE)]
    if not cuts or chance.random() < 0.8:
        return [text]
    cut = chance.choice(cuts)
    return [text[:cut], text[chance.choice((cut, cut, 0)) :]]


def assert_placed(problem: Problem, text: str) -> None:
    lines = _BREAKS.split(text)
    assert 0 <= problem.line <= len(lines) + 1
    if problem.line == 0:
        assert problem.column == 0
    elif problem.line <= len(lines):
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 2


def assert_told_well(problems: tuple[Problem, ...], parts: list[bytes]) -> None:
    texts = {path_of(number): data.decode("utf-8-sig", errors="replace") for number, data in enumerate(parts)}
    for problem in problems:
        assert_placed(problem, texts[problem.path])
        assert problem.message
        assert problem.message.isprintable()
        assert problem.hint.isprintable()
        assert len(problem.message) < 1000
    words = "\n".join(map(repr, problems)).lower()
    assert CANARY not in words
    assert CANARY.encode().hex() not in words


@pytest.mark.parametrize("part", range(PARTS))
def test_no_text_breaks_the_loader(part: int) -> None:
    # Those that may be served come more often: what is broken twice says less.
    texts = [one.read_bytes() for one in (*BROKEN, *(*GOOD, *DOUBTFUL) * 5)]
    chance = random.Random(f"{SEED}/{part}")
    mutator = Mutator(texts, SCHEMA, chance)
    seen: Counter[str] = Counter()
    for number in range(INPUTS // PARTS):
        parts = in_parts(mutator.text(), chance)
        try:
            with limited(MOST_CPU_S):
                served, problems = told(parts)
            assert_told_well(problems, parts)
        except Exception as error:
            raise AssertionError(f"part {part}, text {number}: {type(error).__name__}: {error}\n{parts!r}") from error
        seen["served" if served else "refused"] += 1
        seen.update(problem.check.value for problem in problems)
    # Texts that are all refused for their syntax would prove little.
    assert min(seen["served"], seen["refused"]) > INPUTS // PARTS // 20
    assert len(seen) > 25
