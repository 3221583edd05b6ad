"""What the events of streams say about an engine's steps: the equations from which its coefficients are fitted.

Theory of operation
-------------------
All that is known of an engine is when it was asked and when each token came. Every row below says what some steps took
together, and how often each coefficient is in that:

    decoding    between two tokens of a sequence lies one step of a + b n + c K. Many gaps are taken together, so that
                what the network and this process add at either end is divided by their number, and of the sequences
                that decode beside each other the median is taken.
    joining     while a prompt is read beside sequences that decode, their gaps are the steps: from the last token
                before it was sent to one after its first token lie m steps, m (a + b n + c K) + d p + e p^2 / 2,
                however it was cut into chunks.
    reading     alone, a prompt of p tokens has its first token after k a + d p + e p^2 / 2, in k chunks, and what a
                request takes beside its steps.

The longest gaps while a prompt was read show how many tokens the engine puts into a step.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median, median_low

LEAST_BLOCK_TOKENS = 15
MOST_BLOCKS = 4
"""A row takes so many gaps together, or more: a pause of this process is made up for by what comes in a rush then."""
LONGEST = 3
"""Gaps of a row that are kept one by one, to tell chunks by."""
LEAST_STREAMED_TOKENS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One answer: when it was asked for, its prompt, and the times at which there were so many tokens of it."""

    sent_s: float
    prompt_tokens: int
    times_s: tuple[float, ...]
    tokens: tuple[int, ...]

    @property
    def first_s(self) -> float:
        """When the first token came."""
        return self.times_s[0]

    def by(self, when_s: float) -> int:
        """How many tokens had come by then."""
        place = bisect_right(self.times_s, when_s)
        return self.tokens[place - 1] if place else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One run: the streams that decoded together, and those that joined them one by one for a single token."""

    decoders: tuple[Stream, ...] = ()
    joined: tuple[Stream, ...] = ()
    held_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`seconds` were taken by so many steps, sequences in them, context tokens in them, and so on.

    `attention` is half the square of the prompt. `averaged` such stretches were taken together, which makes their ends
    matter less. `longest_s` are the longest steps, longest first, and `ttft_s` is what the caller waited for the first
    token, where there was one.
    """

    seconds: float
    steps: float
    sequences: float = 0.0
    context_tokens: float = 0.0
    prompt_tokens: int = 0
    averaged: float = 1.0
    longest_s: tuple[float, ...] = ()
    ttft_s: float = 0.0

    @property
    def attention(self) -> float:
        return self.prompt_tokens**2 / 2


def decoding(run: Observed) -> Iterator[Row]:
    """A row for each stretch of steps in which nothing but decoding went on; `seconds` are those of one step."""
    begun = [stream for stream in run.decoders if len(stream.tokens) >= LEAST_STREAMED_TOKENS]
    if run.joined or not begun:
        return
    until_s = min(stream.times_s[-1] for stream in begun)
    together = [stream for stream in begun if stream.first_s < until_s]
    since_s = max(stream.first_s for stream in together)
    count = min(stream.by(until_s) - stream.by(since_s) for stream in together)
    blocks = max(1, min(MOST_BLOCKS, count // LEAST_BLOCK_TOKENS))
    edges = [since_s + (until_s - since_s) * place / blocks for place in range(blocks + 1)]
    for start_s, end_s in pairwise(edges):
        paces = [pace for stream in together if (pace := _pace(stream, start_s, end_s)) is not None]
        if 2 * len(paces) > len(together):
            context = sum(stream.prompt_tokens + stream.by((start_s + end_s) / 2) for stream in together)
            yield Row(
                seconds=median(paces),
                steps=1,
                sequences=len(together),
                context_tokens=context,
                averaged=count / blocks,
            )


def _pace(stream: Stream, start_s: float, end_s: float) -> float | None:
    """Seconds for a token, of those that came in between."""
    first, last = bisect_left(stream.times_s, start_s), bisect_right(stream.times_s, end_s) - 1
    tokens = stream.tokens[last] - stream.tokens[first] if last > first else 0
    return (stream.times_s[last] - stream.times_s[first]) / tokens if tokens >= LEAST_STREAMED_TOKENS - 1 else None


def joining(run: Observed) -> Iterator[Row]:
    """A row for each prompt that was read beside sequences that decoded from before it until after."""
    for prompt in run.joined:
        rows = [row for stream in run.decoders if (row := _beside(stream, run.decoders, prompt)) is not None]
        if rows:
            middle = median_low([row.seconds for row in rows])
            yield next(row for row in rows if row.seconds == middle)


def _beside(stream: Stream, decoders: Sequence[Stream], prompt: Stream) -> Row | None:
    first = bisect_right(stream.times_s, prompt.sent_s) - 1
    # One token more than the prompt's first: which of two tokens of the same step comes first is chance.
    last = bisect_left(stream.times_s, prompt.first_s) + 1
    if first < 0 or last >= len(stream.times_s):
        return None
    start_s, end_s = stream.times_s[first], stream.times_s[last]
    steps = stream.tokens[last] - stream.tokens[first]
    context = sum(one.prompt_tokens + one.by((start_s + end_s) / 2) for one in decoders)
    events = list(zip(stream.times_s[first : last + 1], stream.tokens[first : last + 1], strict=True))
    gaps = [(after[0] - before[0]) / (after[1] - before[1]) for before, after in pairwise(events)]
    return Row(
        seconds=end_s - start_s,
        steps=steps,
        sequences=steps * len(decoders),
        context_tokens=steps * context,
        prompt_tokens=prompt.prompt_tokens,
        longest_s=tuple(sorted(gaps, reverse=True)[:LONGEST]),
        ttft_s=prompt.first_s - prompt.sent_s,
    )


def reading(run: Observed, chunk_tokens: int) -> Iterator[Row]:
    """A row for each prompt that was read alone."""
    for prompt in run.joined if not run.decoders else ():
        waited_s = prompt.first_s - prompt.sent_s
        steps = -(-prompt.prompt_tokens // chunk_tokens)
        yield Row(seconds=waited_s, steps=steps, prompt_tokens=prompt.prompt_tokens, ttft_s=waited_s)
