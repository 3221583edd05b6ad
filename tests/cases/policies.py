"""A policy with a bit of everything, for cases to be about."""

from __future__ import annotations

import hashlib
from pathlib import Path

from proxy.cases.given import read_given
from proxy.policy.compile import check_policy
from proxy.policy.model import Snapshot
from proxy.policy.source import SourceFile
from proxy.routing.decide import Router
from proxy.routing.plan import Decision
from tests.policy.policies import no_price


def digest(word: str) -> str:
    return "sha256:" + hashlib.sha256(word.encode()).hexdigest()


OPEN = """version: 1
targets:
  own:
    lane: dedicated
    urls: ["http://own-0:8000/v1", "http://own-1:8000/v1"]
    model: up
    region: eu-west-1
    max_in_flight: 8
  api: {lane: shared, url: "https://api.example.com/v1", model: up, region: us, price: {input: 1, output: 2}}
models:
  chat: [own, api]
  overflow: [api]
"""

TENANTS = f"""
tenants:
  bank:
    keys: [{{digest: "{digest("a")}", name: ci, tags: [eval], rpm: 60}}, "{digest("b")}"]
    tags: [gdpr]
    request_tags: [canary]
    models: [chat]
  games: {{keys: ["{digest("c")}"]}}
"""

ROUTES = """
routes:
  - {name: eu, match: {tags: [gdpr]}, require: {region: eu-*}, lane_override: false}
  - {name: default, want: {ttft_p99: 2s}}
"""

POLICY = OPEN + TENANTS + ROUTES


def compiled(folder: Path, text: str = POLICY) -> Snapshot:
    path = folder / "policy.yaml"
    path.write_text(text, "utf-8")
    return check_policy(path, env={}, price_of=no_price).snapshot


def case_file(folder: Path, text: str, name: str = "policy.test.yaml") -> SourceFile:
    path = folder / name
    path.write_text(text, "utf-8")
    return SourceFile(str(path), text)


def decided(snapshot: Snapshot, request: dict[str, object], readings: dict[str, object] | None = None) -> Decision:
    given = read_given(snapshot, request, readings or {})
    return Router(snapshot).decide(given.facts, given.readings, given.now, given.draw, given.rates)
