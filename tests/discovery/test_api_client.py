"""The HTTP client for the API server: what it takes for an answer, and what it says of everything else."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy.cluster.access import Access, endpoint_slices
from proxy.discovery.api import ApiFailed
from proxy.discovery.api_client import HttpApi
from tests.apiserver import TOKEN, Refusal, serving
from tests.discovery.following import until

PATH = endpoint_slices("inference", "vllm")


async def failure(api: HttpApi, path: str = PATH) -> ApiFailed:
    with pytest.raises(ApiFailed) as failed:
        await api.get(path)
    assert TOKEN not in str(failed.value)
    return failed.value


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (301, "the API server answers 301"),
        (403, "the service account may not `list` and `watch` what is in `endpointslices`"),
        (500, "the API server answers 500"),
    ],
)
async def test_any_other_answer_is_none(tmp_path: Path, code: int, words: str) -> None:
    async with serving(tmp_path) as (server, access):
        server.faults.refusals = [Refusal(code=code, times=1)]
        failed = await failure(HttpApi(access))
        assert (failed.status, failed.retry_after_s) == (code, 0.0)
        assert str(failed).startswith(words)


async def test_it_is_said_how_long_the_server_asks_to_be_left_alone(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, access):
        server.faults.refusals = [Refusal(code=429, times=1, retry_after_s=7)]
        assert (await failure(HttpApi(access))).retry_after_s == 7.0


async def test_nobody_at_the_address(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, access):
        await server.down()
        failed = await failure(HttpApi(access))
        assert (failed.status, str(failed)[:28]) == (None, "no answer from the API serve")


async def test_a_server_of_that_name_only(tmp_path: Path) -> None:
    """Its certificate is for 127.0.0.1."""
    async with serving(tmp_path) as (_, access):
        elsewhere = Access(host="localhost", port=access.port, account=access.account)
        assert "certificate verify failed" in str(await failure(HttpApi(elsewhere)))


async def test_the_token_is_sent_as_it_is_now(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, access):
        api = HttpApi(access)
        await api.get(PATH)
        server.tokens = {"another"}
        (access.account / "token").write_text("another\n")
        assert b"EndpointSliceList" in await api.get(PATH)
        (access.account / "token").unlink()
        assert "automountServiceAccountToken" in str(await failure(api))


async def test_no_proxy_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    async with serving(tmp_path) as (_, access):
        api = HttpApi(access)
        assert b"EndpointSliceList" in await api.get(PATH)


async def test_connections_are_closed(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, access):
        for _ in range(3):
            await HttpApi(access).get(PATH)
        await until(lambda: not server.connections)
        await failure(HttpApi(access), PATH + "&watch=true")
        await until(lambda: not server.connections)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", b"SSH-2.0\r\n", b""])
async def test_what_is_no_whole_answer(tmp_path: Path, answer: bytes) -> None:
    async with serving(tmp_path) as (server, access):
        server.faults.answer = answer
        assert str(await failure(HttpApi(access))).startswith("no answer from the API server: ")


@pytest.mark.parametrize(
    ("host", "here"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("10.96.0.1", False), ("kubernetes.default.svc", False)],
)
def test_whether_it_is_on_this_host(host: str, here: bool) -> None:
    assert HttpApi(Access(host=host)).is_here is here
