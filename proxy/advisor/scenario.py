"""What a replay takes the world to be like: engines as they really are, shared APIs with their moods, and what breaks.

Theory of operation
-------------------
The policy says what the router believes; the scenario says what is true. By default engines are what their profiles
say, shared APIs always answer, and there is one proxy. Everything else is a question to ask of a policy: what if the
profile is twice too fast, a GPU slows down, a provider is away for five minutes?
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.policy.engine_profile import EngineProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedSpeed:
    """How fast a shared API answers: the first token after a lognormal time, the others at an even pace."""

    ttft_median_s: float = 0.45
    ttft_p99_s: float = 1.62
    tokens_per_s: float = 70.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of the trace, in seconds from its beginning."""

    from_s: float
    to_s: float

    def covers(self, at_s: float) -> bool:
        """Whether the moment lies within."""
        return self.from_s <= at_s < self.to_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowdown:
    """One replica of each dedicated target takes `factor` times as long for everything."""

    span: Span
    replica: int = 0
    factor: float = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is true beside the trace and the policy.

    `truth` are the profiles that engines really have, by target; those of the policy where it says nothing. `proxies`
    share the traffic and tell one another of their work every `sync_s`. `shared_down` are the times at which no shared
    API answers, and `shared_tokens_per_minute` is what each lets through. `queue_limit` is how many requests an engine
    lets wait before it answers that it is full. `lengths_told` says that requests limit themselves to just the answer
    that they get. `cache_ttl_s` is how long an engine keeps a prefix, 0 where it keeps none.
    """

    truth: Mapping[str, EngineProfile] = field(default_factory=dict)
    shared: Mapping[str, SharedSpeed] = field(default_factory=dict)
    slowdowns: tuple[Slowdown, ...] = ()
    shared_down: tuple[Span, ...] = ()
    shared_tokens_per_minute: int | None = None
    proxies: int = 1
    sync_s: float = 0.2
    queue_limit: int | None = None
    lengths_told: bool = False
    max_seqs: int = 256
    cache_ttl_s: float = 600.0


PLAIN = Scenario()
DEFAULT_SPEED = SharedSpeed()
