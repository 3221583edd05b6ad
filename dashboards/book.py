"""All the dashboards, in the order of the questions that they answer."""

from __future__ import annotations

from dashboards.fleet import FLEET
from dashboards.latency import LATENCY
from dashboards.money import MONEY
from dashboards.routing import ROUTING

BOOK = (MONEY, LATENCY, ROUTING, FLEET)
