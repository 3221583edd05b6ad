"""A policy with the replicas that were found for it."""

from __future__ import annotations

from pathlib import Path

from proxy.policy.found import with_found
from proxy.policy.model import Snapshot
from tests.policy.policies import compiled

POLICY = """version: 1
targets:
  own: {lane: dedicated, dns: "vllm.gpu.svc:8000", model: up}
  fixed: {lane: dedicated, url: "http://fixed:8000/v1", model: up}
models: {m: [own, fixed], lora: [{target: own, model: adapter}], second: [fixed]}
"""
PODS = ("http://10.0.0.1:8000/v1", "http://10.0.0.2:8000/v1")


def snapshot(tmp_path: Path) -> Snapshot:
    return compiled(tmp_path, POLICY).snapshot


def test_replicas_are_put_in_wherever_their_target_is_a_candidate(tmp_path: Path) -> None:
    written = snapshot(tmp_path)
    found = with_found(written, {"own": PODS})
    assert found.targets["own"].urls == PODS
    assert [one.target for one in found.models["m"]] == [found.targets["own"], written.targets["fixed"]]
    (adapter,) = found.models["lora"]
    assert (adapter.model, adapter.target.urls) == ("adapter", PODS)
    # State is kept by the identity of a target while it serves: there is one of it.
    assert adapter.target is found.targets["own"] is found.models["m"][0].target
    assert (found.digest, found.routes, found.models["second"]) == (
        written.digest,
        written.routes,
        written.models["second"],
    )


def test_what_is_known_already_changes_nothing(tmp_path: Path) -> None:
    written = snapshot(tmp_path)
    assert with_found(written, {}) is written
    found = with_found(written, {"own": PODS})
    assert with_found(found, {"own": PODS}) is found
    assert with_found(found, {"own": PODS[::-1]}) is not found


def test_only_targets_that_ask_for_it_are_changed(tmp_path: Path) -> None:
    written = snapshot(tmp_path)
    assert with_found(written, {"fixed": PODS, "gone": PODS}) is written


def test_there_may_be_no_replica_at_all(tmp_path: Path) -> None:
    asleep = with_found(snapshot(tmp_path), {"own": ()}).targets["own"]
    assert (asleep.replicas, asleep.addresses) == (0, ())
