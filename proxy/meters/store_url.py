"""The URL of a store, read once: which servers, with what name and password, over TLS or not.

Theory of operation
-------------------
    redis://[user:password@]host[:6379][/database]            one server
    unix://[user:password@]/path[?db=database]                one server on this machine
    redis+sentinel://[user:password@]host[:26379],.../name[/database]   whichever server the sentinels call `name`
    redis+cluster://[user:password@]host[:6379],...           the node of a cluster that holds our one hash slot

`rediss` instead of `redis` is TLS; `valkey` and `valkeys` mean the same as `redis` and `rediss`. Name and password are
percent-encoded. Options follow a `?`; for those of TLS redis-py's names are understood too. Nothing in here opens
anything, and no error text holds more of the URL than its scheme and the names of its options.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from proxy.meters.store_error import StoreUrlInvalid

PORT = 6379
SENTINEL_PORT = 26379
FORMS = (
    "`redis://host:6379/0`, `rediss://` for TLS, `unix:///path`,"
    " `redis+sentinel://host:26379,host/master-name` or `redis+cluster://host:6379,host`"
)
_SAME_OPTION = {
    "ssl_ca_certs": "ca",
    "ssl_certfile": "cert",
    "ssl_keyfile": "key",
    "ssl_check_hostname": "check_hostname",
}
_OPTIONS = {"password_file"}
_TLS_OPTIONS = {"ca", "cert", "key", "check_hostname"}
_SENTINEL_OPTIONS = {"sentinel_username", "sentinel_password", "sentinel_password_file"}
_SENTINEL_TLS_OPTIONS = {"sentinel_tls"}
_YES = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


class Server(NamedTuple):
    """Where a server listens. Port 0: `host` is the path of a Unix socket."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else self.host


class Form(StrEnum):
    """How the server to talk to is found."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Who we are to a server. A password file is read anew for each connection, so that it can be replaced."""

    username: str = ""
    password: str = field(default="", repr=False)
    password_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Whom we trust beside this machine's authorities, and the certificate by which we are known, if any."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    check_hostname: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAddress:
    """Everything that a URL says. `servers` are sentinels, or nodes of a cluster, where `form` says so."""

    form: Form
    servers: tuple[Server, ...]
    login: Login
    database: int = 0
    tls: Tls | None = None
    master: str = ""
    sentinel_login: Login = Login()
    sentinel_tls: Tls | None = None


def parse_store_url(url: str) -> StoreAddress:
    """Raises StoreUrlInvalid."""
    try:
        parts = _split(url)
    except ValueError:
        raise _invalid("the store's URL cannot be parsed") from None
    scheme, _, kind = parts.scheme.replace("valkey", "redis", 1).partition("+")
    if scheme == "unix" and not kind:
        return _unix(parts)
    if scheme not in ("redis", "rediss") or kind not in ("", Form.SENTINEL, Form.CLUSTER):
        raise _invalid("the store's URL begins with no scheme of a store")
    if parts.fragment:
        raise _invalid("the store's URL has a `#`, which is written `%23` in a password")
    return _tcp(parts, Form(kind or Form.SINGLE), secure=scheme == "rediss")


def store_url(given: str, env: Mapping[str, str]) -> str:
    """The URL, with the password in `SPILLWAY_REDIS_PASSWORD` if that is set. Raises StoreUrlInvalid."""
    if password := env.get("SPILLWAY_REDIS_PASSWORD"):
        return with_password(given, password)
    parse_store_url(given)
    return given


def with_password(url: str, password: str) -> str:
    """The URL of the same store, with this password in it. Raises StoreUrlInvalid when it has one already."""
    given = parse_store_url(url).login
    if given.password or given.password_file:
        raise _invalid("the store's password is given twice, in its URL and beside it")
    parts = _split(url)
    login, at, place = parts.netloc.rpartition("@")
    user = login.partition(":")[0] if at else ""
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{place}").geturl()


def _split(url: str) -> SplitResult:
    """The parts of a URL of several hosts, any of which may be in brackets: newer Pythons let only a lone one be.

    Raises ValueError.
    """
    scheme, slashes, rest = url.partition("://")
    place = re.split("[/?#]", rest, maxsplit=1)[0]
    for host in place.rpartition("@")[2].split(","):
        urlsplit(f"//{host}")
    return urlsplit(f"{scheme}{slashes}{rest.removeprefix(place)}")._replace(netloc=place)


def _unix(parts: SplitResult) -> StoreAddress:
    options = _options(parts, _OPTIONS | {"db"})
    path = unquote(parts.path)
    if not path.startswith("/") or parts.netloc.rpartition("@")[2]:
        raise _invalid("a `unix://` URL goes on with a path from the root")
    return StoreAddress(
        form=Form.SINGLE,
        servers=(Server(path, 0),),
        login=_login(parts, options),
        database=_database(options.get("db", "")),
    )


def _tcp(parts: SplitResult, form: Form, *, secure: bool) -> StoreAddress:
    sentinel = form is Form.SENTINEL
    known = _OPTIONS | (_TLS_OPTIONS if secure else set()) | (_SENTINEL_OPTIONS if sentinel else set())
    options = _options(parts, known | (_SENTINEL_TLS_OPTIONS if sentinel and secure else set()))
    tls = _tls(options) if secure else None
    path = [unquote(part) for part in parts.path.strip("/").split("/")]
    master = path.pop(0) if sentinel else ""
    if sentinel and not master:
        raise _invalid("a URL of sentinels ends in the name of the master, as in `/mymaster`")
    database = _database("/".join(path))
    if database and form is Form.CLUSTER:
        raise _invalid("a cluster has no databases but 0")
    return StoreAddress(
        form=form,
        servers=tuple(_servers(parts, SENTINEL_PORT if sentinel else PORT, several=form is not Form.SINGLE)),
        login=_login(parts, options),
        database=database,
        tls=tls,
        master=master,
        sentinel_login=_sentinel_login(options),
        sentinel_tls=tls if sentinel and _yes(options, "sentinel_tls") else None,
    )


def _servers(parts: SplitResult, port: int, *, several: bool) -> Iterator[Server]:
    hosts = parts.netloc.rpartition("@")[2].split(",")
    if len(hosts) > 1 and not several:
        raise _invalid("several hosts, but neither `+sentinel` nor `+cluster` in the URL's scheme")
    for host in hosts:
        try:
            one = urlsplit(f"//{host}")
            yield Server(unquote(one.hostname or "localhost"), one.port or port)
        except ValueError:
            raise _invalid("the store's URL has a host or a port that cannot be one") from None


def _login(parts: SplitResult, options: Mapping[str, str]) -> Login:
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    return _one_password(unquote(user), unquote(password), options.get("password_file", ""), "the store's URL has")


def _sentinel_login(options: Mapping[str, str]) -> Login:
    user, password, file = (options.get(f"sentinel_{name}", "") for name in ("username", "password", "password_file"))
    return _one_password(user, password, file, "the sentinels have")


def _one_password(username: str, password: str, file: str, whose: str) -> Login:
    if password and file:
        raise _invalid(f"{whose} both a password and a password file")
    return Login(username=username, password=password, password_file=Path(file) if file else None)


def _tls(options: Mapping[str, str]) -> Tls:
    ca, cert, key = (Path(options[name]) if options.get(name) else None for name in ("ca", "cert", "key"))
    if key and not cert:
        raise _invalid("option `key` of the store's URL goes with `cert`")
    return Tls(ca=ca, cert=cert, key=key, check_hostname=_yes(options, "check_hostname"))


def _options(parts: SplitResult, known: set[str]) -> dict[str, str]:
    options = {_SAME_OPTION.get(name, name): value for name, value in parse_qsl(parts.query, keep_blank_values=True)}
    if unknown := sorted(options.keys() - known):
        named = ", ".join(f"`{name}`" for name in sorted(known))
        raise StoreUrlInvalid(f"a store's URL of this form has no option `{unknown[0]}` (hint: it has {named})")
    return options


def _yes(options: Mapping[str, str], name: str) -> bool:
    """An option that is on unless it is turned off."""
    said = _YES.get(options.get(name, "yes").lower())
    if said is None:
        raise StoreUrlInvalid(f"option `{name}` of the store's URL is neither `yes` nor `no`")
    return said


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdigit()):
        raise _invalid("the database in the store's URL is not a number")
    return int(text or "0")


def _invalid(problem: str) -> StoreUrlInvalid:
    return StoreUrlInvalid(f"{problem} (hint: {FORMS})")
