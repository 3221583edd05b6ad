"""How the admin port is asked: with the token, of nobody but who was named, and what each failure is called."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler

import pytest
from proxy.cli.admin_port import NoAnswer, NotAUrl, SaidNo, ask
from proxy.cli.command import app
from tests.cli.test_top import Port, answering, whole
from typer.testing import CliRunner

TOKEN = "canary-token-5c1e"
ENV = {"SPILLWAY_ADMIN_TOKEN": TOKEN}


def test_the_token_goes_along_if_there_is_one() -> None:
    with answering(whole(b"{}")) as port:
        ask(port.url, "/admin/policy", env=ENV).close()
        ask(port.url + "/", "/admin/policy", env={}).close()
    assert [one.get("authorization") for one in port.asked] == [f"Bearer {TOKEN}", None]


def test_it_goes_to_nobody_that_the_port_redirects_to() -> None:
    with answering(whole(b"{}")) as other:

        def away(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(307)
            handler.send_header("location", f"{other.url}/admin/policy")
            handler.send_header("content-length", "0")
            handler.end_headers()

        with answering(away) as port, pytest.raises(SaidNo) as refused:
            ask(port.url, "/admin/policy", env=ENV)
    assert refused.value.status == 307
    assert other.asked == []


def test_a_token_that_no_header_can_carry_is_not_sent_and_not_shown() -> None:
    with answering(whole(b"{}")) as port, pytest.raises(NoAnswer) as refused:
        ask(port.url, "/admin/policy", env={"SPILLWAY_ADMIN_TOKEN": f"{TOKEN}\r\nx-evil: 1"})
    assert "SPILLWAY_ADMIN_TOKEN holds what no header can carry" in str(refused.value)
    assert TOKEN not in str(refused.value)
    assert port.asked == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"message": "no such thing"}}', "no such thing"),
        (b'{"error": "x"}', ""),
        (b"[]", ""),
        (b"<html>", ""),
        (b"", ""),
    ],
)
def test_what_an_error_says(body: bytes, said: str) -> None:
    with answering(whole(body, 400)) as port, pytest.raises(SaidNo) as refused:
        ask(port.url, "/admin/policy")
    assert (refused.value.status, refused.value.said, refused.value.body) == (400, said, body)
    assert (said or "is that the admin port of a Spillway?") in str(refused.value)


def test_nobody_and_no_url() -> None:
    with pytest.raises(NoAnswer, match=r"no proxy answers at `http://127.0.0.1:1`.*hint: try another"):
        ask("http://127.0.0.1:1", "/admin/policy", hint="try another")
    for url in ("localhost:9090", "file:///etc/passwd", "ftp://x"):
        with pytest.raises(NotAUrl):
            ask(url, "/admin/policy")


@pytest.mark.parametrize(
    "verb",
    [
        ["status"],
        ["top", "--once"],
        ["meters"],
        ["advise", "--policy", "POLICY", "--from-meters"],
        ["policy", "explain", "--model", "m", "--live"],
    ],
)
def test_every_verb_that_asks_sends_the_token(
    verb: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("SPILLWAY_ADMIN_TOKEN", TOKEN)
    monkeypatch.setenv("PROVIDER_KEY", "sk-of-this-test")
    policy = tmp_path_factory.mktemp("advise") / "policy.yaml"
    policy.write_text(POLICY)
    with answering(whole(b'{"error": {"message": "not today"}}', 403)) as port:
        words = [str(policy) if one == "POLICY" else one for one in verb]
        where = [port.url] if words[-1] == "--live" else ["--admin-url", port.url]
        result = CliRunner().invoke(app, [*words, *where])
    assert result.exit_code != 0
    assert "not today" in result.stderr
    assert TOKEN not in result.output
    assert told(port) == {f"Bearer {TOKEN}"}


def told(port: Port) -> set[str | None]:
    return {one.get("authorization") for one in port.asked}


POLICY = """\
version: 1
targets:
  gpu:
    lane: dedicated
    url: http://gpu.internal:8000/v1
    model: meta-llama/Llama-3.3-70B-Instruct
    region: eu
    gpus: {type: H100, count: 2, usd_per_hour: 2.99}
  api:
    lane: shared
    provider: openai
    url: http://api.internal/v1
    model: llama
    region: us
    api_key: ${PROVIDER_KEY}
    price: {input: 0.5, output: 1.5}
models:
  m: [gpu, api]
"""
