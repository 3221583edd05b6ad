"""Why the server does not start: each reason is found before anything is served, and told in words."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from proxy import run as starting
from proxy.run import run
from proxy.serving import StartError
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


def settings(folder: Path, text: str = PLAIN, **more: Any) -> Settings:
    policy = folder / "policy.yaml"
    policy.write_text(text)
    return Settings(policy=policy, data_dir=folder / "data", **{"port": 0, "admin_port": 0, **more})


@pytest.fixture
def bound_hosts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where it would have listened; nothing is."""
    hosts: list[str] = []

    def bound(host: str, port: int, *, shared: bool = False) -> Any:
        hosts.append(host)
        raise StartError("far enough")

    monkeypatch.setattr(starting, "bound", bound)
    return hosts


@pytest.mark.parametrize(
    ("text", "host", "listens"),
    [
        (PLAIN, None, "127.0.0.1"),
        (KEYED, None, "0.0.0.0"),
        (OPEN, None, "0.0.0.0"),
        (PLAIN, "localhost", "localhost"),
        (PLAIN, "::1", "::1"),
        (KEYED, "10.1.2.3", "10.1.2.3"),
    ],
)
def test_where_it_listens(text: str, host: str | None, listens: str, tmp_path: Path, bound_hosts: list[str]) -> None:
    with pytest.raises(StartError, match="far enough"):
        run(settings(tmp_path, text, host=host))
    assert bound_hosts == [listens]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org", ""])
def test_without_keys_it_listens_to_this_machine_only(host: str, tmp_path: Path, bound_hosts: list[str]) -> None:
    with pytest.raises(StartError, match="the policy has no `tenants`"):
        run(settings(tmp_path, host=host))
    assert bound_hosts == []


def test_a_bad_policy_comes_before_everything_else(tmp_path: Path, bound_hosts: list[str]) -> None:
    with pytest.raises(StartError, match=r"(?s)policy\.yaml:1:1: .*has mistakes"):
        run(settings(tmp_path, "version: 2\n"))
    assert bound_hosts == []
    assert not (tmp_path / "data").exists()


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            run(settings(tmp_path, port=port))
    assert not (tmp_path / "data").exists()


def test_a_store_address_that_is_none_is_refused_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(StartError) as told:
        run(settings(tmp_path, redis_url="http://:canary-9a44@localhost:6379"))
    assert str(told.value).startswith("not started: ")
    assert "canary-9a44" not in str(told.value)
