"""The terms in which a starting policy is put: kinds of application, the work each makes, and the rules that suit it.

Theory of operation
-------------------
An application of one `Kind` makes one or more sorts of request (`Work`); each becomes a route. Values stand here as a
policy spells them, each with the reason that a reader of the policy will see. `profiles` has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from proxy.policy.model import Endpoint, Modality, Prefer


class Kind(StrEnum):
    """The interface that an application offers to its users."""

    AGENTS = "agents"
    CHAT = "chat"
    VOICE = "voice"
    MEDIA = "media"
    SEARCH = "search"
    RECOMMENDATION = "recommendation"
    COMPLETION = "completion"
    MODERATION = "moderation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line under `require` or `want`, as the policy spells it, and why it is there."""

    key: str
    value: str
    why: str
    shadow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One sort of request. `match` is what tells it from the work after it; the last of a kind matches everything.

    `modalities`, if there are any, are part of it: one of them is in the prompt. `input_tokens` and `max_output_tokens`
    are a usual request's, and `why` is about `prefer`.
    """

    name: str
    endpoint: Endpoint
    input_tokens: int
    max_output_tokens: int | None
    match: tuple[tuple[str, str], ...] = ()
    modalities: tuple[Modality, ...] = ()
    require: tuple[Rule, ...] = ()
    want: tuple[Rule, ...] = ()
    prefer: Prefer
    why: str
    max_failovers: int = 1
    why_failovers: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A kind: its works, the most that a shared token may cost when nobody waits, and what its targets need.

    `timeouts` are the inside of a target's mapping; `max_in_flight` is one replica's; `rpm` is one tenant's.
    """

    does: str
    works: tuple[Work, ...]
    offline_usd_per_mtok: str
    max_in_flight: int
    why_in_flight: str
    timeouts: str = ""
    why_timeouts: str = ""
    rpm: int = 600


def ask(key: str, value: str, why: str, *, shadow: bool = False) -> Rule:
    """A rule in one line."""
    return Rule(key=key, value=value, why=why, shadow=shadow)


def offline_work(profile: Profile, *, beside_online: bool, in_flight: int | None = None) -> Work:
    """What `profile` does when nobody waits; beside online traffic it is told apart, and kept from crowding it out.

    `in_flight` is what the engines hold, one replica as the profile suggests by default; 0 is no engine at all.
    """
    main, held = profile.works[-1], profile.max_in_flight if in_flight is None else in_flight
    cap = ask("usd_per_mtok", profile.offline_usd_per_mtok, "no hurry: what costs more than this can wait for a GPU")
    crowd = ask("concurrency", str(max(1, held // 2)), "its share of the engines; the rest is for those who wait")
    return Work(
        name="offline",
        endpoint=main.endpoint,
        input_tokens=main.input_tokens,
        max_output_tokens=main.max_output_tokens,
        match=(("traffic", "offline"),) if beside_online else (),
        require=(cap, crowd) if beside_online and held else (cap,),
        prefer=Prefer.DEDICATED,
        why="fills GPUs that are paid for already, at hours when they are idle",
        max_failovers=2,
        why_failovers="nobody waits, so another target is always worth a try",
    )
