"""How a pod reaches the API server: by what the kubelet tells it, with files that may be others the next time."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy.cluster.access import API_SERVER, Access, endpoint_slices, refusal, words


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, f"https://{API_SERVER}:443"),
        ({"KUBERNETES_SERVICE_PORT": "6443"}, f"https://{API_SERVER}:443"),
        ({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, "https://10.96.0.1:443"),
        ({"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "6443"}, "https://10.96.0.1:6443"),
        ({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}, "https://[fd00::1]:443"),
    ],
)
def test_the_address_is_in_the_environment(environment: dict[str, str], url: str) -> None:
    assert Access.of(environment).url == url


def test_the_token_is_read_every_time(tmp_path: Path) -> None:
    access = Access(account=tmp_path)
    for token in ("one", "another"):
        (tmp_path / "token").write_text(f"{token}\n")
        assert access.headers()["Authorization"] == f"Bearer {token}"


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", b"\xff\xfe"])
def test_a_file_that_holds_no_token_is_not_sent(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(OSError, match="holds no token"):
        Access(account=tmp_path).headers()


def test_without_an_account_there_is_neither_token_nor_authority(tmp_path: Path) -> None:
    access = Access(account=tmp_path)
    for read, name in ((access.headers, "token"), (access.tls, "ca.crt")):
        with pytest.raises(FileNotFoundError) as missing:
            read()
        assert missing.value.filename == str(tmp_path / name)


def test_names_are_quoted_where_they_are_put_into_a_path() -> None:
    assert endpoint_slices("in/ference", "v&llm", limit=100, **{"continue": "a=b"}) == (
        "/apis/discovery.k8s.io/v1/namespaces/in%2Fference/endpointslices"
        "?labelSelector=kubernetes.io%2Fservice-name%3Dv%26llm&limit=100&continue=a%3Db"
    )


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "the API server does not accept the token of the service account"),
        (403, "the service account may not fly"),
        (500, "the API server answers 500"),
    ],
)
def test_why_it_was_refused(status: int, said: str) -> None:
    assert refusal(status, "fly") == said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(2, "No such file", "/x/token"), "there is no `/x/token` (hint: it is mounted where"),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_what_went_wrong(error: OSError, said: str) -> None:
    assert said in words(error)
