"""The index agrees with a plain model of caches, forgets what is old or in the way, and stays within its memory."""

from __future__ import annotations

import gc
import random
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st
from proxy.signals.prefix_index import BLOCK_BYTES, NO_HITS, SWEEPS, TTL_S, UNKNOWN_CAPACITY_TOKENS, PrefixIndex

T0 = 5000.0
BLOCK = 512
PLENTY = 100_000


def urls(count: int) -> tuple[str, ...]:
    return tuple(f"http://replica-{place}:8000/v1" for place in range(count))


def index(replicas: int = 2, blocks: int = PLENTY) -> PrefixIndex:
    return PrefixIndex(urls(replicas), blocks * BLOCK, PLENTY)


def chain(*words: str) -> tuple[int, ...]:
    """Numbers of blocks, each standing for all words up to its own."""
    return tuple(hash(words[:length]) & (1 << 63) - 1 for length in range(1, len(words) + 1))


def test_a_replica_has_what_it_was_sent_as_far_as_prompts_begin_alike() -> None:
    caches = index(3)
    caches.note(0, chain("system", "tools", "a", "b"), 4 * BLOCK + 100, T0)
    caches.note(2, chain("system", "x"), 2 * BLOCK, T0)
    assert caches.hits(chain("system", "tools", "a", "c"), T0) == (3 * BLOCK, 0, BLOCK)
    assert caches.hits(chain("system", "x"), T0) == (BLOCK, 0, 2 * BLOCK)
    assert caches.hits(chain("tools", "a"), T0) == NO_HITS
    assert caches.hits((), T0) == NO_HITS


def test_noting_tells_what_the_replica_had_before() -> None:
    caches = index()
    assert caches.note(1, chain("a", "b"), 2 * BLOCK, T0) == 0
    assert caches.note(1, chain("a", "b", "c"), 3 * BLOCK, T0) == 2 * BLOCK
    assert caches.note(0, chain("a", "b", "c"), 3 * BLOCK, T0) == 0


def test_what_was_used_longest_ago_makes_room_the_end_of_a_prompt_before_its_beginning() -> None:
    caches = index(blocks=4)
    caches.note(0, chain("a", "b"), 2 * BLOCK, T0)
    caches.note(0, chain("c", "d"), 2 * BLOCK, T0)
    caches.note(0, chain("e"), BLOCK, T0)
    assert caches.hits(chain("a", "b"), T0) == (BLOCK, 0)
    caches.note(0, chain("a"), BLOCK, T0)
    caches.note(0, chain("f", "g"), 2 * BLOCK, T0)
    assert caches.hits(chain("a"), T0) == (BLOCK, 0)
    assert caches.hits(chain("c", "d"), T0) == NO_HITS


def test_tokens_without_a_block_take_room_too() -> None:
    caches = index(blocks=4)
    caches.note(0, chain("a"), BLOCK, T0)
    for _ in range(3):
        caches.note(0, (), BLOCK // 2, T0)
        caches.fill(0, BLOCK // 2, T0)
    assert caches.hits(chain("a"), T0) == (BLOCK, 0)
    caches.fill(0, BLOCK - 1, T0)
    assert caches.hits(chain("a"), T0) == (BLOCK, 0)
    caches.fill(0, 1, T0)
    assert caches.hits(chain("a"), T0) == NO_HITS


def test_a_prompt_longer_than_the_memory_leaves_its_beginning() -> None:
    caches = index(blocks=3)
    caches.note(1, chain(*"abcdef"), 6 * BLOCK, T0)
    assert caches.hits(chain(*"abcdef"), T0) == (0, 3 * BLOCK)
    caches.fill(1, 100 * BLOCK, T0)
    assert caches.hits(chain(*"abcdef"), T0) == NO_HITS
    assert len(caches) == 3


def test_what_nobody_asked_for_is_forgotten_in_time() -> None:
    caches = index()
    caches.note(0, chain("a", "b"), 2 * BLOCK, T0)
    caches.note(0, chain("a"), BLOCK, T0 + TTL_S / 2)
    assert caches.hits(chain("a", "b"), T0 + 0.99 * TTL_S) == (2 * BLOCK, 0)
    late = 1 + 1 / SWEEPS
    assert caches.hits(chain("a", "b"), T0 + late * TTL_S) == (BLOCK, 0)
    assert caches.hits(chain("a", "b"), T0 + (0.5 + 2 * late) * TTL_S) == NO_HITS
    assert len(caches) == 0


def test_a_replica_that_begins_anew_has_nothing() -> None:
    caches = index()
    for replica in (0, 1):
        caches.note(replica, chain("a", "b"), 2 * BLOCK, T0)
    caches.clear(0)
    assert caches.hits(chain("a", "b"), T0) == (0, 2 * BLOCK)
    caches.clear(1)
    assert (caches.hits(chain("a", "b"), T0), len(caches)) == (NO_HITS, 0)


def test_replicas_keep_what_they_have_when_their_places_change() -> None:
    first, second, third = urls(3)
    caches = PrefixIndex((first, second), None, PLENTY)
    caches.note(0, chain("a"), BLOCK, T0)
    caches.note(1, chain("a", "b"), 2 * BLOCK, T0)
    caches.follow((third, second, first), None, PLENTY)
    assert caches.hits(chain("a", "b"), T0) == (0, 2 * BLOCK, BLOCK)
    assert [caches.place(url) for url in (first, second, third)] == [2, 1, 0]
    caches.follow((second,), None, PLENTY)
    assert caches.hits(chain("a", "b"), T0) == (2 * BLOCK,)
    assert caches.place(first) is None
    caches.follow((second,), None, 1)
    assert caches.hits(chain("a", "b"), T0) == (BLOCK,)


def test_a_memory_that_nobody_has_told_is_taken_to_be_a_usual_one() -> None:
    caches = PrefixIndex(urls(1), None, PLENTY)
    caches.fill(0, 2 * UNKNOWN_CAPACITY_TOKENS, T0)
    assert len(caches) == UNKNOWN_CAPACITY_TOKENS // BLOCK


class Plain:
    """One replica's cache, as plainly as can be: a list of blocks, that used last at the end."""

    def __init__(self, most_blocks: int) -> None:
        self.blocks: list[object] = []
        self.loose = 0
        self.most_blocks = most_blocks

    def hit_tokens(self, prefix: tuple[int, ...]) -> int:
        run = 0
        while run < len(prefix) and prefix[run] in self.blocks:
            run += 1
        return run * BLOCK

    def read(self, prefix: tuple[int, ...], tokens: int) -> None:
        for block in reversed(prefix[: self.most_blocks]):
            if block in self.blocks:
                self.blocks.remove(block)
            self.blocks.append(block)
        self.loose += max(0, tokens - len(prefix) * BLOCK)
        while self.loose >= BLOCK:
            self.loose -= BLOCK
            self.blocks.append(object())
        del self.blocks[: -self.most_blocks]


PROMPTS = st.lists(st.sampled_from("ab"), max_size=5).map(lambda words: chain(*words))
STEPS = st.tuples(st.integers(0, 2), PROMPTS, st.integers(0, 2 * BLOCK), st.integers(0, 20))


@given(st.integers(1, 12), st.lists(STEPS, max_size=60), PROMPTS)
def test_it_agrees_with_a_plain_model(
    most_blocks: int, steps: list[tuple[int, tuple[int, ...], int, int]], asked: tuple[int, ...]
) -> None:
    caches, plain = index(3, most_blocks), [Plain(most_blocks) for _ in range(3)]
    for replica, prefix, more, restart in steps:
        if restart == 20:
            caches.clear(replica)
            plain[replica] = Plain(most_blocks)
        for prompt in (prefix, asked):
            expected = tuple(one.hit_tokens(prompt) for one in plain)
            assert caches.hits(prompt, T0) == (expected if any(expected) else NO_HITS)
        had = plain[replica].hit_tokens(prefix[:most_blocks])
        assert caches.note(replica, prefix, len(prefix) * BLOCK + more, T0) == had
        plain[replica].read(prefix, len(prefix) * BLOCK + more)
        assert len(caches) == sum(len(one.blocks) for one in plain)


def test_memory_stays_within_what_is_stated() -> None:
    replicas, most_blocks = 16, 1024
    draw = random.Random(7)
    gc.collect()
    tracemalloc.start()
    caches = PrefixIndex(urls(replicas), None, most_blocks)
    for _ in range(6 * most_blocks):
        blocks = tuple(draw.getrandbits(63) for _ in range(5))
        caches.note(draw.randrange(replicas), blocks, 6 * BLOCK, T0)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(caches) > 0.7 * replicas * UNKNOWN_CAPACITY_TOKENS // BLOCK
    assert taken <= len(caches) * BLOCK_BYTES
