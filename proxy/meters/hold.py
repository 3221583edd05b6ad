"""What one attempt may spend: set aside before it begins, topped up while it streams, settled at its end.

Theory of operation
-------------------
Nobody knows how long an answer will be. So an attempt begins with the price of its whole input and of a first step of
output, and sets aside another step each time half of the last one has passed. When nothing more is to be had it may use
up what it has, and is cut then: `top_up` says so. This is the interim grant of RFC 8506.

What cannot be watched, because it comes in one piece, must be bounded instead: all the output that it may have is set
aside at once, and the upstream is told that bound.

The input is bounded from above as well: a byte-level tokenizer never makes more tokens than there are bytes, and the
estimate is of four bytes a token. As usage comes in, that strict bound gives way to what was seen (`InputBound`).
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

import msgspec

from proxy.meters.escrow import Escrow
from proxy.meters.term import Term
from proxy.policy.model import Budget, Enforce, Lane, Price, Target
from proxy.routing import budgets
from proxy.routing.budgets import STEP_TOKENS
from proxy.routing.cost import TOKENS_PER_MTOK
from proxy.routing.facts import Facts
from proxy.routing.outcome import Outcome
from proxy.routing.plan import Attempt
from proxy.routing.rules import expected_output_tokens

BYTES_PER_TOKEN = 4
TEMPLATE_TOKENS = 64
"""What a chat template and its special tokens may add to a prompt."""
WHOLE_REPLY_TOKENS = 8192
"""The output that is set aside, for each choice, for a reply in one piece whose request sets no limit to it."""
LEAST_REPLY_TOKENS = 256
"""A bound below which a reply in one piece is not worth having."""
NEVER = sys.maxsize
MAX_KEPT = 10_000


class Spent(msgspec.Struct, frozen=True, gc=False):
    """The budget that has no money for an attempt."""

    budget: str


class Events(Protocol):
    """How many tokens the events of a stream stand for."""

    def tokens(self, target: str, events: int) -> int:
        """Of so many events, as far as replies of the target have told; at least as many."""
        ...


class InputBound:
    """The most input tokens that an upstream may count, for each one that was estimated; learned for each target.

    Strict until `SEEN` replies have told; then a margin above the most of the last `SEEN`.
    """

    SEEN = 32
    MARGIN = 1.1

    def __init__(self) -> None:
        self._ratios: dict[str, deque[float]] = {}
        self._most: dict[str, float] = {}

    def observe(self, target: str, estimated: int, counted: int) -> None:
        """A reply has counted its input."""
        ratio = max(0, counted - TEMPLATE_TOKENS) / max(1, estimated)
        ratios = self._ratios.get(target)
        if ratios is None:
            ratios = self._ratios[target] = deque(maxlen=self.SEEN)
        whole = len(ratios) == self.SEEN
        falls_off = whole and ratios[0] * self.MARGIN == self._most[target]
        ratios.append(ratio)
        if not whole or falls_off:
            self._most[target] = max(ratios) * self.MARGIN if len(ratios) == self.SEEN else BYTES_PER_TOKEN
        elif ratio * self.MARGIN > self._most[target]:
            self._most[target] = ratio * self.MARGIN

    def tokens(self, target: str, estimated: int) -> int:
        """The bound for an input that was estimated at so many."""
        most = self._most.get(target, BYTES_PER_TOKEN)
        return int(estimated * min(most, BYTES_PER_TOKEN)) + TEMPLATE_TOKENS


class Hold:
    """One attempt's. Money is nano-USD; `events` are content events of a stream that have passed."""

    __slots__ = (
        "_amount",
        "_covered",
        "_dearest",
        "_facts",
        "_input_tokens",
        "_step",
        "_target",
        "_terms",
        "_tokens_of",
        "bound",
    )

    def __init__(
        self,
        terms: tuple[Term, ...],
        target: Target,
        facts: Facts,
        input_tokens: int,
        step: int,
        tokens_of: Callable[[int], int],
        dearest: tuple[int, int] | None,
    ) -> None:
        self._terms = terms
        self._dearest = dearest
        self._target = target
        self._facts = facts
        self._input_tokens = input_tokens
        self._step = step
        self._tokens_of = tokens_of
        self._amount = 0
        self._covered = 0
        self.bound: int | None = None
        """The limit to each choice's output that the upstream has to be told."""

    def begin(self, output_tokens: int, now: float) -> bool:
        """Set aside the input and so much output, in every term or in none."""
        return self._raise_to(self._price(output_tokens), now)

    def begin_whole(self, facts: Facts, now: float) -> bool:
        """Set aside all the output of a reply in one piece: what the request allows itself, or less if need be."""
        most = facts.max_output_tokens
        if expected_output_tokens(facts) == 0:
            return self.begin(0, now)
        bound = wished = WHOLE_REPLY_TOKENS if most is None else most
        amount = self._price(bound * facts.choices)
        free = min([term.free for term in self._terms if term.hard])
        while bound > LEAST_REPLY_TOKENS and amount > free:
            bound = max(LEAST_REPLY_TOKENS, bound // 2)
            amount = self._price(bound * facts.choices)
        if not self._raise_to(amount, now):
            return False
        if most is None or bound < wished:
            self.bound = bound
        if bound < wished:
            for term in self._terms:
                term.wish(self._price(wished * facts.choices))
        return True

    def least(self, facts: Facts) -> int:
        """What has to be free for the attempt to begin."""
        return self._price(_first_step(facts) if facts.stream else _least_reply(facts))

    def top_up(self, events: int, now: float) -> int:
        """Set aside enough for the events that have passed and for a step more.

        Returns the number of events at which to ask again; 0 when not even those that passed are covered.
        """
        step = self._step
        for ahead in (step, step // 4, 1):
            if self._raise_to(self._price(self._tokens_of(events + ahead)), now):
                self._covered = events + ahead
                return events + max(1, ahead // 2)
        return events + 1 if events < self._covered else 0

    def settle(self, used: int) -> None:
        """The attempt has ended and has used so much; what it held beyond is free again."""
        for term in self._terms:
            term.settle(self._amount, used)
        self._terms = ()

    def _price(self, output_tokens: int) -> int:
        if self._dearest is not None:
            into, out = self._dearest
            return -(-(self._input_tokens * into + output_tokens * out) // TOKENS_PER_MTOK)
        return budgets.most_nano_usd(self._target, self._facts, self._input_tokens, output_tokens)

    def _raise_to(self, amount: int, now: float) -> bool:
        more = amount - self._amount
        if more <= 0:
            return True
        for index, term in enumerate(self._terms):
            if not term.set_aside(more, now, begun=self._amount > 0):
                for held in self._terms[:index]:
                    held.release(more)
                return False
        self._amount = amount
        return True


class _Paying(NamedTuple):
    """Which of a request's budgets pay for a target: the same for all requests of one caller on one route."""

    covering: tuple[Budget, ...]
    target: Target
    budgets: tuple[Budget, ...]
    hard: bool
    countable: bool


class Holds:
    """Opens holds; what replies tell of their input makes the next ones tighter."""

    def __init__(self, escrow: Escrow, events: Events) -> None:
        self._escrow = escrow
        self._events = events
        self._bound = InputBound()
        self._dearest: dict[str, tuple[Price, tuple[int, int]]] = {}
        self._paying: dict[tuple[int, str], _Paying] = {}

    def funds(self, now: float) -> Escrow:
        """What every budget has left at `now`, until the next call."""
        return self._escrow.at(now)

    def open(self, covering: tuple[Budget, ...], attempt: Attempt, facts: Facts, now: float) -> Hold | Spent | None:
        """Set aside what the attempt needs to begin, under those of the request's budgets that cover its target.

        None where none does.
        """
        target = attempt.target
        paying = self._paying.get((id(covering), target.name))
        if paying is None or paying.covering is not covering or paying.target is not target:
            paying = self._made_out(covering, target)
        if not paying.budgets:
            return None
        hard, terms = paying.hard, self._escrow.terms_of(paying.budgets)
        if hard and not paying.countable:
            return Spent(next(budget.name for budget in paying.budgets if budget.enforce is Enforce.HARD))
        hold = self._hold(terms, target, facts, strict=hard)
        begun = hold.begin_whole(facts, now) if hard and not facts.stream else hold.begin(_first_step(facts), now)
        return hold if begun else Spent(next(term.budget for term in terms if term.refused))

    def _made_out(self, covering: tuple[Budget, ...], target: Target) -> _Paying:
        if len(self._paying) >= MAX_KEPT:
            self._paying.clear()
        paying = tuple([budget for budget in covering if budget.pays_for(target)])
        hard = any(budget.enforce is Enforce.HARD for budget in paying)
        made = _Paying(covering, target, paying, hard, budgets.countable(target))
        self._paying[id(covering), target.name] = made
        return made

    def missed(self, budget: str, target: Target, facts: Facts) -> None:
        """A target was left out because this process has too little of the budget: there may be more in the store."""
        terms = tuple([term for term in self._escrow.terms_named(budget) if term.hard])
        if terms and budgets.countable(target):
            least = self._hold(terms, target, facts, strict=True).least(facts)
            for term in terms:
                term.lack(least)

    def observe(self, facts: Facts, outcome: Outcome) -> None:
        """An attempt has ended, and its upstream may have counted the input."""
        usage = outcome.usage
        if usage.input_tokens and not usage.estimated:
            self._bound.observe(outcome.attempt.target.name, facts.input_tokens, usage.input_tokens)

    def _hold(self, terms: tuple[Term, ...], target: Target, facts: Facts, *, strict: bool) -> Hold:
        input_tokens = self._bound.tokens(target.name, facts.input_tokens) if strict else facts.input_tokens
        return Hold(
            terms,
            target,
            facts,
            input_tokens,
            STEP_TOKENS * facts.choices,
            partial(self._events.tokens, target.name),
            self._dearest_of(target, facts, input_tokens),
        )

    def _dearest_of(self, target: Target, facts: Facts, input_tokens: int) -> tuple[int, int] | None:
        """Worked out once for each target, where it is the same for all requests in plain text and the plain tier."""
        price = target.price
        if price is None or price.above or facts.service_tier or facts.modalities or target.parameters:
            return budgets.dearest(target, facts, input_tokens)
        known = self._dearest.get(target.name)
        if known is not None and known[0] is price and target.lane is Lane.SHARED:
            return known[1]
        found = budgets.dearest(target, facts, input_tokens)
        if found is not None:
            self._dearest[target.name] = price, found
        return found


def _least_reply(facts: Facts) -> int:
    return min(expected_output_tokens(facts), LEAST_REPLY_TOKENS) * facts.choices


def _first_step(facts: Facts) -> int:
    return min(expected_output_tokens(facts), STEP_TOKENS) * facts.choices
