"""What a policy must be to be served, at the start and afterwards. Serving itself: e2e/test_serve, e2e/test_reload."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from proxy.policy.source import read_source
from proxy.policy.watch import Unfit
from proxy.reload import Ready
from proxy.serving import StartError, following, load, servable
from proxy.settings import Settings

PLAIN = """\
version: 1
targets:
  gpu: {lane: dedicated, engine: vllm, url: 'http://127.0.0.1:1/v1', model: a}
models:
  m: [gpu]
"""
KEYED = PLAIN + f"tenants:\n  bank: {{keys: ['sha256:{'5e20' * 16}']}}\n"
OPEN = PLAIN + "auth: none\n"
OTHER = PLAIN.replace("gpu", "tpu")


class Nobody:
    """A follower that is not told: the tests read the steps themselves."""

    def adopt(self, prepared: object) -> None: ...

    def refuse(self, refused: Unfit) -> None: ...

    def restore(self) -> None: ...


def policy(folder: Path, text: str) -> Settings:
    path = folder / "policy.yaml"
    path.write_text(text)
    return Settings(policy=path)


def changed(folder: Path, before: str, after: str, host: str) -> Any:
    """What comes of a text that replaces another one while a server listens at `host`."""
    settings, now = policy(folder, before), itertools.count(1.0)
    reload = following(load(settings), settings, host, Nobody(), now.__next__)
    beside = folder / "new"
    beside.write_text(after)
    beside.rename(settings.policy)
    return next(news for news in iter(reload.step, object()) if news is not None)


def test_what_is_loaded_is_compiled_from_the_texts_that_come_with_it(tmp_path: Path) -> None:
    settings = policy(tmp_path, KEYED)
    loaded = load(settings)
    assert loaded.source == read_source(settings.policy)
    assert loaded.snapshot.digest == loaded.source.digest


def test_every_mistake_is_told_before_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"(?s)sideways.*engin.*has mistakes"):
        load(policy(tmp_path, PLAIN.replace("dedicated", "sideways").replace("engine", "engin")))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(("before", "after"), [(KEYED, OTHER), (PLAIN, KEYED), (OPEN, OTHER)])
def test_on_this_machine_alone_anything_sound_is_adopted(before: str, after: str, host: str, tmp_path: Path) -> None:
    news = changed(tmp_path, before, after, host)
    assert isinstance(news, Ready)
    assert news.prepared.snapshot.digest == read_source(tmp_path / "policy.yaml").digest


@pytest.mark.parametrize("after", [KEYED.replace("gpu", "tpu"), OTHER + "auth: none\n"])
def test_where_others_call_a_policy_with_keys_or_open_to_all_is_adopted(after: str, tmp_path: Path) -> None:
    assert isinstance(changed(tmp_path, KEYED, after, "0.0.0.0"), Ready)


def test_where_others_call_a_policy_whose_keys_were_all_revoked_is_served(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(PLAIN + "tenants: {bank: {keys: []}}\n")
    assert servable(read_source(path), "0.0.0.0").key_of(b"sk-any") is None


def test_where_others_call_a_policy_that_lost_its_tenants_is_not(tmp_path: Path) -> None:
    news = changed(tmp_path, KEYED, OTHER, "0.0.0.0")
    assert isinstance(news, Unfit)
    (problem,) = news.problems
    assert problem.path == str(tmp_path / "policy.yaml")
    assert problem.message == "without `tenants`, anybody who reaches `0.0.0.0` could spend your money"
    assert news.revision == read_source(tmp_path / "policy.yaml").digest[:12]


def test_a_decision_log_that_cannot_be_written_is_a_reason_not_to_start(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(PLAIN)
    settings = Settings(policy=tmp_path / "policy.yaml", decision_log=tmp_path / "nowhere" / "log")
    with pytest.raises(StartError, match=r"the decision log `.*/nowhere/log` cannot be written: no such file"):
        load(settings)
