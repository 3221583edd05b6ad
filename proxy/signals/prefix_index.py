"""Which beginnings of prompts each replica of a target most likely still has in its cache.

Theory of operation
-------------------
An engine keeps the blocks of what it has read until it needs their memory, and drops those first that were used longest
ago; so what is in its cache follows from what was sent to it. Each replica is modelled as such a cache: blocks in order
of last use, no more of them than its memory holds, none older than `TTL_S`. Tokens that belong to no block (the end of
a prompt, an answer) take memory too, and push blocks out: they are counted, and stand in the order as blocks without a
name. A prompt's last block counts as used before its first, as in vLLM, so a block never outlives those before it.

A block's number stands for all before it too (`Facts.prefix`), so a replica's share of a prompt is a run from its
beginning. One dictionary gives for each block the replicas that have it, as the bits of an integer: finding every
replica's run is one walk over the prompt's blocks, however many replicas there are.

A block costs about `BLOCK_BYTES` for each replica that has it, so an index of k replicas with `most_blocks` each never
takes more than their product. What was sent by other processes is not known here; what an engine really had in its
cache is told by its `usage`, and corrected for elsewhere.
"""

from __future__ import annotations

from collections import OrderedDict

BLOCK_TOKENS = 512
"""Of one block: long enough that a prompt has few, short enough that a system prompt fills one."""
TTL_S = 600.0
SWEEPS = 60
"""In one `TTL_S`: what is too old is dropped that many times in it, so by that part of it too late at most."""
UNKNOWN_CAPACITY_TOKENS = 400_000
"""Of a replica whose memory nobody has told: that of one 80 GB GPU with a model of 8 to 70 billion parameters."""
BLOCK_BYTES = 320
"""Of memory here, at most, for each block of each replica; measured in a test."""

Hits = tuple[int, ...]
"""Tokens that each replica has of one prompt, in the order of the target's replicas."""

NO_HITS: Hits = ()

_Cache = OrderedDict[object, float]
"""One replica's blocks with the times of their last use, that used longest ago first. A block without a name has an
object of its own in the place of its number."""


class PrefixIndex:
    """The caches of one target's replicas, as this process knows them.

    Replicas go by their places in `urls`, which tell them apart across policies. `capacity_tokens` is the engine's
    memory for context, None where nobody knows; `most_blocks` is how many may be kept here of one replica.
    """

    __slots__ = (
        "_block_tokens",
        "_caches",
        "_held",
        "_loose",
        "_most_blocks",
        "_places",
        "_sweep_at",
        "urls",
    )

    def __init__(
        self,
        urls: tuple[str, ...],
        capacity_tokens: int | None,
        most_blocks: int,
        *,
        block_tokens: int = BLOCK_TOKENS,
    ) -> None:
        self.urls = urls
        self._places = {url: place for place, url in enumerate(urls)}
        self._block_tokens = block_tokens
        self._sweep_at = 0.0
        self._held: dict[int, int] = {}
        self._caches: list[_Cache] = [OrderedDict() for _ in self.urls]
        self._loose = [0] * len(self.urls)
        self._most_blocks = self._bound(capacity_tokens, most_blocks)

    def __len__(self) -> int:
        """How many blocks are kept, of all replicas together, those without a name included."""
        return sum(map(len, self._caches))

    def place(self, url: str) -> int | None:
        """Where a replica stands, None where the current policy does not have it."""
        return self._places.get(url)

    def hits(self, prefix: tuple[int, ...], now: float) -> Hits:
        """How many tokens of a prompt each replica has; `NO_HITS` when none has any."""
        if now >= self._sweep_at:
            self._sweep(now)
        held = self._held
        having = held.get(prefix[0], 0) if prefix else 0
        if not having:
            return NO_HITS
        runs = [((1 << len(self._caches)) - 1 ^ having, 0)]
        depth = 0
        for block in prefix:
            still = having & held.get(block, 0)
            if still != having:
                runs.append((having ^ still, depth))
                having = still
                if not having:
                    break
            depth += 1
        runs.append((having, depth))
        return self._spread(runs)

    def note(self, replica: int, prefix: tuple[int, ...], input_tokens: int, now: float) -> int:
        """A prompt of so many tokens was sent to a replica. Returns how many of them the replica had before."""
        cache, held, bit = self._caches[replica], self._held, 1 << replica
        use = cache.move_to_end
        loose = input_tokens - len(prefix) * self._block_tokens
        had = 0
        for block in reversed(prefix[: self._most_blocks]):
            if block in cache:
                use(block)
                had += self._block_tokens
            else:
                held[block] = held.get(block, 0) | bit
            cache[block] = now
        if loose > 0:
            self._fill(replica, loose, now)
        if len(cache) > self._most_blocks:
            self._shrink(replica)
        return had

    def fill(self, replica: int, tokens: int, now: float) -> None:
        """So many tokens that no later prompt is expected to begin with were read or made by a replica."""
        self._fill(replica, tokens, now)
        if len(self._caches[replica]) > self._most_blocks:
            self._shrink(replica)

    def clear(self, replica: int) -> None:
        """A replica has begun anew, with nothing in its cache."""
        for block in self._caches[replica]:
            self._release(block, 1 << replica)
        self._caches[replica] = OrderedDict()
        self._loose[replica] = 0

    def follow(self, urls: tuple[str, ...], capacity_tokens: int | None, most_blocks: int) -> None:
        """The target of another policy: replicas keep what they have wherever they stand now, new ones have nothing."""
        bound = self._bound(capacity_tokens, most_blocks)
        if urls == self.urls and bound == self._most_blocks:
            return
        before = dict(zip(self.urls, zip(self._caches, self._loose, strict=True), strict=True))
        kept = [before.get(url) or (_Cache(), 0) for url in urls]
        self.urls, self._most_blocks = urls, bound
        self._places = {url: place for place, url in enumerate(urls)}
        self._caches = [cache for cache, _ in kept]
        self._loose = [loose for _, loose in kept]
        self._held = {}
        for replica, cache in enumerate(self._caches):
            for block in cache:
                if isinstance(block, int):
                    self._held[block] = self._held.get(block, 0) | 1 << replica
            self._shrink(replica)

    def _spread(self, runs: list[tuple[int, int]]) -> Hits:
        """From sets of replicas, as bits, with the blocks that those of each have, to the tokens of every replica."""
        most = max(runs, key=_size)
        tokens = [most[1] * self._block_tokens] * len(self._caches)
        for replicas, blocks in runs:
            if replicas == most[0]:
                continue
            found = blocks * self._block_tokens
            bits = bin(replicas)[:1:-1]
            replica = bits.find("1")
            while replica >= 0:
                tokens[replica] = found
                replica = bits.find("1", replica + 1)
        return tuple(tokens)

    def _bound(self, capacity_tokens: int | None, most_blocks: int) -> int:
        tokens = UNKNOWN_CAPACITY_TOKENS if capacity_tokens is None else capacity_tokens
        return max(1, min(tokens // self._block_tokens, most_blocks))

    def _fill(self, replica: int, tokens: int, now: float) -> None:
        blocks, self._loose[replica] = divmod(self._loose[replica] + tokens, self._block_tokens)
        cache = self._caches[replica]
        for _ in range(min(blocks, self._most_blocks)):
            cache[object()] = now

    def _shrink(self, replica: int) -> None:
        cache, bit = self._caches[replica], 1 << replica
        for _ in range(len(cache) - self._most_blocks):
            self._release(cache.popitem(last=False)[0], bit)

    def _sweep(self, now: float) -> None:
        self._sweep_at = now + TTL_S / SWEEPS
        oldest = now - TTL_S
        for replica, cache in enumerate(self._caches):
            while cache and cache[next(iter(cache))] <= oldest:
                self._release(cache.popitem(last=False)[0], 1 << replica)

    def _release(self, block: object, bit: int) -> None:
        if isinstance(block, int):
            left = self._held[block] & ~bit
            if left:
                self._held[block] = left
            else:
                del self._held[block]


def _size(run: tuple[int, int]) -> int:
    return run[0].bit_count()
