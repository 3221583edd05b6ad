"""Which load tells the coefficients of an engine's steps apart, and how much of it there is.

Theory of operation
-------------------
A step takes a + b n + c K + sum(d t + e t x). Each coefficient is told from the others by runs in which what it is
multiplied with differs most:

    decoding    few and many short sequences (a, b), then as many long ones (c)
    reading     prompts of several lengths, alone and one at a time, answered with one token (d, e, and what a request
                takes beside its steps)
    joining     the same while a few sequences decode: their gaps are the steps, one by one (d, e, and the chunk)

A run is `held_out` when the fit does not see it, so that the error that is told is that of a prediction: batches and
prompts between those of the others. Prompts differ from each other from their first words on, or a prefix cache would
answer for the engine.
"""

from __future__ import annotations

from dataclasses import dataclass

SETTLED_TOKENS = 60
SETTLED_S = 1.0
MOST_SETTLED_TOKENS = 400
"""What each sequence of a decoding run is observed for, once all have begun: so many tokens, and so long if it does not
take more of them than that."""
APART_TOKENS = 3
"""Steps that pass between one joining prompt and the next."""
MOST_ROUNDS = 3
GREETING_TOKENS = 2_000
"""Finding out how the engine wants to be asked costs no more."""
SHORT = 64
"""A short prompt is this much shorter than the longest."""
LEAST_SHORT_TOKENS = 16
LEAST_PROMPT_TOKENS = 128
SMALLEST_CHUNK = 128
JOIN_TOKENS = 96
"""Prompts are taken to be read in chunks of no less, and a request to take no longer beside its steps than so many of
them: it bounds how long others decode beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """`decoders` sequences of `prompt_tokens` each that decode together; beside them, `joining` prompts, one by one."""

    decoders: int = 0
    prompt_tokens: int = 0
    joining: tuple[int, ...] = ()
    held_out: bool = False

    @property
    def answer_tokens(self) -> int:
        """What each decoder is allowed, so that it is still there when the last of the prompts has been read."""
        if self.joining:
            steps = sum(-(-tokens // SMALLEST_CHUNK) + JOIN_TOKENS for tokens in self.joining)
        else:
            steps = -(-self.decoders * self.prompt_tokens // SMALLEST_CHUNK) + MOST_SETTLED_TOKENS
        return steps if self.decoders else 0

    @property
    def most_tokens(self) -> int:
        """What the run can cost, prompts and answers together."""
        return self.decoders * (self.prompt_tokens + self.answer_tokens) + sum(self.joining) + len(self.joining)


def design(prompt_tokens: int, concurrency: int) -> tuple[Run, ...]:
    """The runs, with prompts up to about so many tokens and so many sequences at one time.

    Sequences that decode have prompts of half that length at most: reading them is what a calibration mostly costs.
    """
    longest, many = prompt_tokens, concurrency
    long, short, few = longest // 2, max(LEAST_SHORT_TOKENS, longest // SHORT), max(1, concurrency // 4)
    lengths = (short, longest // 8, longest // 4, longest // 2, longest)
    between = (3 * longest // 16, 5 * longest // 8)
    return (
        Run(joining=2 * lengths),
        Run(joining=2 * between, held_out=True),
        Run(decoders=1, prompt_tokens=short),
        Run(decoders=few, prompt_tokens=short),
        Run(decoders=many, prompt_tokens=short),
        Run(decoders=max(1, many // 2), prompt_tokens=long // 2, held_out=True),
        Run(decoders=few, prompt_tokens=long),
        Run(decoders=many, prompt_tokens=long),
        Run(decoders=min(4, many), prompt_tokens=short, joining=2 * lengths[1:]),
        Run(decoders=min(4, many), prompt_tokens=short, joining=2 * between, held_out=True),
    )


def within(most_tokens: int, prompt_tokens: int, concurrency: int) -> tuple[Run, ...]:
    """The largest design that costs no more than `most_tokens`: shorter prompts, then fewer sequences.

    Several rounds of it where there are tokens for them, since a machine is not the same at all times; none at all
    where even the smallest costs more.
    """
    while cost(runs := design(prompt_tokens, concurrency)) > most_tokens:
        if prompt_tokens > 8 * LEAST_PROMPT_TOKENS or (prompt_tokens > LEAST_PROMPT_TOKENS and concurrency <= 4):
            prompt_tokens = max(LEAST_PROMPT_TOKENS, prompt_tokens * 3 // 4)
        elif concurrency > 4:
            concurrency = max(4, concurrency * 3 // 4)
        else:
            return ()
    return runs * max(1, min(MOST_ROUNDS, most_tokens // cost(runs)))


def warming(runs: tuple[Run, ...]) -> Run:
    """What goes before the runs: the longest prompt, for what an engine does for the first time only."""
    return Run(joining=(max(tokens for run in runs for tokens in (run.prompt_tokens, *run.joining)),))


def cost(runs: tuple[Run, ...]) -> int:
    """The most tokens that the runs can cost together, with what goes before them."""
    return sum(run.most_tokens for run in (*runs, warming(runs))) + GREETING_TOKENS
