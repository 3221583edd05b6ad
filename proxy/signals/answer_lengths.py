"""How long the answers to an app's requests get, learned from those that have ended.

Theory of operation
-------------------
An app is a tenant's key asking one model at one endpoint: what it asks for is much alike, while apps differ a
hundredfold. Of each the mean of the recent answers is kept, since the work of many answers follows from their mean: the
n-th answer weighs 1 / n, and later ones `SLOWEST`. The first sample of an app does not stand alone: what is known of
its model counts as one more. Apps beyond `MOST_APPS` push out those that were seen longest ago.

Only whole answers are to be fed: one that was cut off says nothing of how long it would have got.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

from proxy.policy.model import Endpoint
from proxy.routing.facts import Facts

MOST_APPS = 4096
SLOWEST = 1 / 64
"""The least that one more answer weighs: the last hundred or so count."""

_SILENT = frozenset({Endpoint.EMBEDDINGS, Endpoint.COUNT_TOKENS})
"""Endpoints that answer without generating a token."""

_App = tuple[str, str, str, Endpoint]
_Model = tuple[str, Endpoint]
_Name = TypeVar("_Name", _App, _Model)


class AnswerLengths:
    """Recent means, in tokens of one choice. What is given out never exceeds the request's own limit."""

    __slots__ = ("_apps", "_models")

    def __init__(self) -> None:
        self._apps: OrderedDict[_App, list[float]] = OrderedDict()
        self._models: OrderedDict[_Model, list[float]] = OrderedDict()

    def __len__(self) -> int:
        """How many apps are known."""
        return len(self._apps)

    def expected(self, facts: Facts) -> float | None:
        """How many tokens each choice of a request will get, None where neither its app nor its model is known."""
        endpoint = facts.endpoint
        known = self._apps.get((facts.tenant.name, facts.key.name, facts.model, endpoint))
        if known is None:
            if endpoint in _SILENT:
                return 0.0
            known = self._models.get((facts.model, endpoint))
            if known is None:
                return None
        mean, limit = known[0], facts.max_output_tokens
        return mean if limit is None or mean < limit else float(limit)

    def feed(self, facts: Facts, output_tokens: int) -> None:
        """A request's answers ended of themselves, after so many tokens together."""
        tokens = output_tokens / facts.choices if facts.choices > 1 else float(output_tokens)
        model = (facts.model, facts.endpoint)
        app = (facts.tenant.name, facts.key.name, *model)
        known = self._apps.get(app)
        of_model = self._models.get(model)
        if known is None:
            of_app = [tokens, 1.0] if of_model is None else [(of_model[0] + tokens) / 2, 0.5]
            _keep(self._apps, app, of_app)
        else:
            self._apps.move_to_end(app)
            _learn(known, tokens)
        if of_model is None:
            _keep(self._models, model, [tokens, 1.0])
        else:
            _learn(of_model, tokens)


def _learn(known: list[float], tokens: float) -> None:
    """Move a mean, whose newest sample had the weight that stands beside it, towards one more sample."""
    mean, weight = known
    if weight > SLOWEST:
        known[1] = weight = weight / (1 + weight)
    known[0] = mean + weight * (tokens - mean)


def _keep(means: OrderedDict[_Name, list[float]], name: _Name, mean: list[float]) -> None:
    means[name] = mean
    if len(means) > MOST_APPS:
        means.popitem(last=False)
