"""What a store's URL may say, and how it is told that it says something else."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy.meters.store_error import StoreUrlInvalid
from proxy.meters.store_url import Form, Login, Server, StoreAddress, Tls, parse_store_url, store_url, with_password

TLS = Tls()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://host", StoreAddress(form=Form.SINGLE, servers=(Server("host", 6379),), login=Login())),
        ("valkey://host", StoreAddress(form=Form.SINGLE, servers=(Server("host", 6379),), login=Login())),
        (
            "redis://us%40er:p%2Fw%3A@[::1]:7000/3",
            StoreAddress(
                form=Form.SINGLE,
                servers=(Server("::1", 7000),),
                login=Login(username="us@er", password="p/w:"),
                database=3,
            ),
        ),
        (
            "redis://:pw@host/",
            StoreAddress(form=Form.SINGLE, servers=(Server("host", 6379),), login=Login(password="pw")),
        ),
        (
            "unix://:pw@/run/a%20b.sock?db=2",
            StoreAddress(
                form=Form.SINGLE, servers=(Server("/run/a b.sock", 0),), login=Login(password="pw"), database=2
            ),
        ),
        (
            "rediss://host?ca=/ca.pem&cert=/c.pem&key=/k.pem&check_hostname=no&password_file=/pw",
            StoreAddress(
                form=Form.SINGLE,
                servers=(Server("host", 6379),),
                login=Login(password_file=Path("/pw")),
                tls=Tls(ca=Path("/ca.pem"), cert=Path("/c.pem"), key=Path("/k.pem"), check_hostname=False),
            ),
        ),
        (
            "valkeys://host?ssl_ca_certs=/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem&ssl_check_hostname=False",
            StoreAddress(
                form=Form.SINGLE,
                servers=(Server("host", 6379),),
                login=Login(),
                tls=Tls(ca=Path("/ca.pem"), cert=Path("/c.pem"), key=Path("/k.pem"), check_hostname=False),
            ),
        ),
        (
            "redis+sentinel://u:p@a,b:1/main/4?sentinel_username=s&sentinel_password=t",
            StoreAddress(
                form=Form.SENTINEL,
                servers=(Server("a", 26379), Server("b", 1)),
                login=Login(username="u", password="p"),
                database=4,
                master="main",
                sentinel_login=Login(username="s", password="t"),
            ),
        ),
        (
            "rediss+sentinel://a/main",
            StoreAddress(
                form=Form.SENTINEL,
                servers=(Server("a", 26379),),
                login=Login(),
                master="main",
                tls=TLS,
                sentinel_tls=TLS,
            ),
        ),
        (
            "rediss+sentinel://a/main?sentinel_tls=no&sentinel_password_file=/s",
            StoreAddress(
                form=Form.SENTINEL,
                servers=(Server("a", 26379),),
                login=Login(),
                master="main",
                tls=TLS,
                sentinel_login=Login(password_file=Path("/s")),
            ),
        ),
        (
            "redis+cluster://:p@a:1,[fe80::1],c",
            StoreAddress(
                form=Form.CLUSTER,
                servers=(Server("a", 1), Server("fe80::1", 6379), Server("c", 6379)),
                login=Login(password="p"),
            ),
        ),
        (
            "rediss+cluster://a/0",
            StoreAddress(form=Form.CLUSTER, servers=(Server("a", 6379),), login=Login(), tls=TLS),
        ),
    ],
)
def test_each_form(url: str, address: StoreAddress) -> None:
    assert parse_store_url(url) == address


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "begins with no scheme of a store"),
        ("localhost:6379", "begins with no scheme of a store"),
        ("http://localhost", "begins with no scheme of a store"),
        ("redis+unix:///a", "begins with no scheme of a store"),
        ("unix+sentinel://a/b", "begins with no scheme of a store"),
        ("redis://[half", "cannot be parsed"),
        ("redis://host:no", "a host or a port that cannot be one"),
        ("redis://host:99999", "a host or a port that cannot be one"),
        ("redis+cluster://a,b:no", "a host or a port that cannot be one"),
        ("redis://a,b", "neither `+sentinel` nor `+cluster`"),
        ("redis://host/name", "database in the store's URL is not a number"),
        ("redis://host/1/2", "database in the store's URL is not a number"),
        ("redis://host/-1", "database in the store's URL is not a number"),
        ("redis+cluster://host/1", "a cluster has no databases but 0"),
        ("redis+sentinel://host", "ends in the name of the master"),
        ("redis+sentinel://host/main/x", "database in the store's URL is not a number"),
        ("unix://run/store.sock", "goes on with a path from the root"),
        ("unix://", "goes on with a path from the root"),
        ("redis://:pass#word@host", "written `%23`"),
        ("redis://host?ca=/ca.pem", "no option `ca` (hint: it has `password_file`)"),
        ("rediss://host?sentinel_tls=no", "no option `sentinel_tls`"),
        ("redis+sentinel://host/m?sentinel_tls=no", "no option `sentinel_tls`"),
        ("rediss://host?key=/k.pem", "goes with `cert`"),
        ("rediss://host?check_hostname=maybe", "neither `yes` nor `no`"),
        ("redis://:p@host?password_file=/p", "URL has both a password and a password file"),
        (
            "redis+sentinel://h/m?sentinel_password=p&sentinel_password_file=/p",
            "sentinels have both a password and a password file",
        ),
    ],
)
def test_what_cannot_be_one_is_told_with_a_hint(url: str, problem: str) -> None:
    with pytest.raises(StoreUrlInvalid) as told:
        parse_store_url(url)
    assert problem in str(told.value)


@pytest.mark.parametrize("scheme", ["redis", "rediss+sentinel", "htp", "unix"])
@pytest.mark.parametrize(
    "rest", ["u:s3cret@[x", "u:s3cret@h:no", "u:s3cret@h?x=s3cret", "u:s3#cret@h", "u:s3cret@h/x/y"]
)
def test_no_error_repeats_a_password(scheme: str, rest: str) -> None:
    with pytest.raises(StoreUrlInvalid) as told:
        parse_store_url(f"{scheme}://{rest}")
    assert "s3" not in str(told.value)


def test_an_address_shows_no_password() -> None:
    assert "s3cret" not in repr(parse_store_url("redis+sentinel://u:s3cret@h/m?sentinel_password=s3cret"))


@pytest.mark.parametrize(
    "url",
    [
        "redis://host:1/2",
        "redis://user@host:1/2",
        "rediss://[::1]:7?ca=/x",
        "unix:///run/store.sock?db=1",
        "redis+sentinel://a,b:2/main",
        "redis+cluster://user@a,b",
    ],
)
def test_a_password_from_elsewhere(url: str) -> None:
    plain, given = parse_store_url(url), parse_store_url(with_password(url, "a/b@c:%d#?"))
    assert given.login == Login(username=plain.login.username, password="a/b@c:%d#?")
    assert (given.servers, given.database, given.master, given.tls) == (
        plain.servers,
        plain.database,
        plain.master,
        plain.tls,
    )


@pytest.mark.parametrize("url", ["redis://:one@host", "redis://host?password_file=/one"])
def test_a_password_is_given_once(url: str) -> None:
    with pytest.raises(StoreUrlInvalid, match="given twice"):
        with_password(url, "two")


def test_the_password_of_the_store_joins_its_url() -> None:
    env = {"SPILLWAY_REDIS_PASSWORD": "a/b"}
    assert store_url("redis://user@host/1", env) == "redis://user:a%2Fb@host/1"
    assert store_url("redis://user@host/1", {}) == "redis://user@host/1"


@pytest.mark.parametrize("url", ["redis://:one@host", "localhost"])
def test_a_url_that_is_none_or_has_a_password_is_refused(url: str) -> None:
    with pytest.raises(StoreUrlInvalid) as told:
        store_url(url, {"SPILLWAY_REDIS_PASSWORD": "canary"})
    assert "canary" not in str(told.value)
