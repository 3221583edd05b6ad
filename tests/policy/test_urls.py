"""Which upstream URLs a policy may name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.policy.problem import Mistake
from proxy.policy.urls import base_url, has_path, is_clear_text_to_public_host
from proxy.policy.variables import Interpolated


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("https://api.perplexity.ai", "https://api.perplexity.ai"),
    ],
)
def test_base_urls(written: str, read: str) -> None:
    assert base_url(written) == read


@pytest.mark.parametrize(
    "written",
    [
        "localhost:8000/v1",
        "unix:///run/vllm.sock",
        "http://",
        "http:///v1",
        "http://host:0/v1",
        "http://host:99999/v1",
        "http://host:port/v1",
        "http://[::1/v1",
        "http://ho st/v1",
        "http://hôst/v1",
        "http://host/v1#x",
        "http://host/v1?",
        "http://host/v1/embeddings",
        "http://0.0.0.0/v1",
        "http://224.0.0.1/v1",
        "http://[fe80::1]/v1",
        "http://169.254.169.254/latest",
        "",
        8000,
        None,
    ],
)
def test_other_urls_are_refused(written: object) -> None:
    with pytest.raises(Mistake):
        base_url(written)


@pytest.mark.parametrize(
    "written",
    ["http://user:hunter2@host/v1", "http://user:hunter2@ho st/v1", "ftp://hunter2@host", "http://host/v1?k=hunter2"],
)
def test_a_credential_in_a_url_is_refused_and_not_repeated(written: str) -> None:
    for value in (written, Interpolated(written, "${URL}")):
        with pytest.raises(Mistake) as refused:
            base_url(value)
        assert "hunter2" not in refused.value.message + refused.value.hint


@given(st.text())
def test_any_text_is_a_url_or_a_mistake(text: str) -> None:
    try:
        read = base_url(text)
    except Mistake:
        return
    assert base_url(read) == read


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8000/v1",
        "http://127.0.0.1/v1",
        "http://10.1.2.3/v1",
        "http://192.168.0.9/v1",
        "http://[fd00::1]/v1",
        "http://vllm:8000/v1",
        "http://vllm.inference.svc:8000/v1",
        "http://vllm.inference.svc.cluster.local/v1",
        "http://gpu.lan/v1",
        "https://api.openai.com/v1",
    ],
)
def test_a_key_is_safe_on_tls_and_on_private_hosts(url: str) -> None:
    assert not is_clear_text_to_public_host(url)


@pytest.mark.parametrize("url", ["http://api.openai.com/v1", "http://8.8.8.8/v1", "http://vllm.inference/v1"])
def test_a_key_is_not_safe_in_clear_on_any_other_host(url: str) -> None:
    assert is_clear_text_to_public_host(url)


def test_has_path() -> None:
    assert has_path("http://host/v1")
    assert not has_path("http://host")
