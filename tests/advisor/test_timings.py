"""What streams say about steps, by hand."""

from __future__ import annotations

import pytest
from proxy.advisor.timings import LEAST_BLOCK_TOKENS, Observed, Stream, decoding, joining, reading


def even(start_s: float, count: int, gap_s: float = 0.02, prompt_tokens: int = 100) -> Stream:
    """A token every `gap_s`."""
    return Stream(
        sent_s=start_s - 0.1,
        prompt_tokens=prompt_tokens,
        times_s=tuple(start_s + gap_s * place for place in range(count)),
        tokens=tuple(range(1, count + 1)),
    )


def test_decoding_is_seen_where_all_decode() -> None:
    """The first stream has 30 tokens before the second begins: its context is longer, and those gaps are left out."""
    first, second = even(1.0, 30 + 2 * LEAST_BLOCK_TOKENS + 1), even(1.6, 2 * LEAST_BLOCK_TOKENS + 1)
    rows = list(decoding(Observed(decoders=(first, second))))
    assert [row.seconds for row in rows] == pytest.approx([0.02, 0.02])
    assert {(row.steps, row.sequences, row.prompt_tokens) for row in rows} == {(1, 2, 0)}
    assert rows[0].context_tokens == pytest.approx(2 * 100 + 30 + LEAST_BLOCK_TOKENS, abs=3)
    assert rows[1].context_tokens - rows[0].context_tokens == pytest.approx(2 * LEAST_BLOCK_TOKENS, abs=2)


def test_several_tokens_in_one_event_are_several_steps() -> None:
    pairs = Stream(
        sent_s=0.0,
        prompt_tokens=10,
        times_s=tuple(0.04 * place for place in range(1, 21)),
        tokens=tuple(range(2, 42, 2)),
    )
    assert {round(row.seconds, 9) for row in decoding(Observed(decoders=(pairs,)))} == {0.02}


def test_a_stream_that_hangs_does_not_count_among_others() -> None:
    hung = Stream(sent_s=0.9, prompt_tokens=100, times_s=(1.0, 1.1, 1.9), tokens=(1, 2, 30))
    streams = (even(1.0, 40), even(1.0, 40), even(1.0, 40), hung)
    assert {round(row.seconds, 9) for row in decoding(Observed(decoders=streams))} == {0.02}


def test_sequences_that_the_engine_never_began_did_not_decode() -> None:
    waiting = Stream(sent_s=0.9, prompt_tokens=100, times_s=(), tokens=())
    rows = list(decoding(Observed(decoders=(even(1.0, 40), waiting))))
    assert {row.sequences for row in rows} == {1}
    assert list(decoding(Observed(decoders=(waiting,)))) == []


def joined_run(late_s: float = 0.0) -> Observed:
    """Gaps of 20 ms, two of which are 100 ms longer while a prompt is read, from 1.05 s to 1.28 s."""
    gaps = [0.02] * 5 + [0.12] * 2 + [0.02] * 5
    times = [1.0]
    for gap in gaps:
        times.append(times[-1] + gap)
    decoder = Stream(sent_s=0.9, prompt_tokens=100, times_s=tuple(times), tokens=tuple(range(1, len(times) + 1)))
    prompt = Stream(sent_s=1.09, prompt_tokens=1000, times_s=(times[7] + late_s,), tokens=(1,))
    return Observed(decoders=(decoder, decoder), joined=(prompt,))


@pytest.mark.parametrize("late_s", [0.0, 0.001, -0.001])
def test_a_joining_prompt_is_seen_in_the_gaps_of_the_others(late_s: float) -> None:
    """Whichever of two tokens of the same step comes first, what is said of the prompt is the same."""
    (row,) = joining(joined_run(late_s))
    assert row.seconds - 0.02 * row.steps == pytest.approx(0.2)
    assert row.sequences == 2 * row.steps
    assert row.context_tokens == pytest.approx(row.steps * 2 * 107, rel=0.01)
    assert (row.prompt_tokens, row.attention) == (1000, 500_000)
    assert row.longest_s == pytest.approx((0.12, 0.12, 0.02))
    assert row.ttft_s == pytest.approx(0.23 + late_s - 0.08 + 0.1, abs=0.02)


def test_a_decoder_that_ended_meanwhile_says_nothing() -> None:
    run = joined_run()
    short = [
        Stream(sent_s=0.9, prompt_tokens=100, times_s=one.times_s[:7], tokens=one.tokens[:7]) for one in run.decoders
    ]
    assert list(joining(Observed(decoders=tuple(short), joined=run.joined))) == []


def test_a_prompt_alone_is_cut_into_chunks() -> None:
    prompt = Stream(sent_s=1.0, prompt_tokens=1000, times_s=(1.3,), tokens=(1,))
    (row,) = reading(Observed(joined=(prompt,)), 384)
    assert (row.steps, row.sequences, row.prompt_tokens) == (3, 0, 1000)
    assert row.seconds == row.ttft_s == pytest.approx(0.3)
    assert list(reading(joined_run(), 384)) == []
    assert list(decoding(joined_run())) == []
