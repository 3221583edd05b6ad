"""What replicas are called, and where they are."""

from __future__ import annotations

from proxy.policy.discovery import replica_key, replica_url


def test_a_key_names_one_replica_and_does_not_say_where_it_is() -> None:
    key = replica_key("llama-eu", "http://10.0.0.1:8000/v1")
    assert key == replica_key("llama-eu", "http://10.0.0.1:8000/v1")
    assert key != replica_key("llama-eu", "http://10.0.0.2:8000/v1")
    assert key.startswith("llama-eu/")
    assert "10.0" not in key


def test_an_address_of_either_family_is_a_host() -> None:
    assert replica_url("10.0.0.1", 8000, "/v1") == "http://10.0.0.1:8000/v1"
    assert replica_url("fd00::1", 80, "") == "http://[fd00::1]:80"
