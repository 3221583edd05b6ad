"""The README's rule for an ACL user: enough for us, and for nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from proxy.meters.store import key_prefix

from tests.redis.servers import Server, start_cluster, start_redis
from tests.redis.test_forms import refused, works

ROOT = Path(__file__).parents[2]
METERS = ROOT / "proxy" / "meters"
RULE = re.compile(r"^ACL SETUSER spillway on >PASSWORD (.+)$", re.MULTILINE)


def rule() -> list[str]:
    found = RULE.findall((ROOT / "README.md").read_text("utf-8"))
    assert len(found) == 1
    return found[0].split()


def used(server: Server) -> list[str]:
    """Every command that our scripts call and that the reading side sends: whatever they name in capitals."""
    scripts = "".join(path.read_text("utf-8") for path in METERS.glob("lua/*.lua"))
    named = {*re.findall(r"'([A-Z]{3,})'", scripts), *re.findall(r'\("([A-Z]{3,})"', (METERS / "store.py").read_text())}
    known = {command.upper() for command in server.ask("COMMAND", "LIST")}
    return sorted(named & known | {"EVAL", "SELECT"})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start_redis(tmp_path_factory.mktemp("acl")) as one:
        one.ask("ACL", "SETUSER", "spillway", "on", ">s3cret", *rule())
        yield one


def verdict(server: Server, command: str, key: str = f"{key_prefix()}x") -> str:
    """What the server would say to this command of the user's, with as many words as it needs."""
    name = command.split("|")
    arity = abs(server.ask("COMMAND", "INFO", command)[0][1])
    words = ["return 1", "1", key] if command == "EVAL" else [key] * (arity - len(name))
    return str(server.ask("ACL", "DRYRUN", "spillway", *name, *words))


def test_every_command_that_we_use_is_allowed(server: Server) -> None:
    commands = used(server)
    assert {"HSET", "HMGET", "ZADD", "TIME", "INFO"} <= set(commands)
    assert {command: verdict(server, command) for command in commands} == dict.fromkeys(commands, "OK")


@pytest.mark.parametrize("command", ["HSET", "ZADD", "SMEMBERS", "DEL", "RENAME", "HGETALL", "EVAL"])
def test_on_our_own_keys_only(server: Server, command: str) -> None:
    for key in ("other", "spillway", "{spillway}", "x{spillway}:y", "{spillwaz}:x"):
        assert "permissions to access" in verdict(server, command, key)


@pytest.mark.parametrize(
    "command", ["FLUSHALL", "FLUSHDB", "KEYS", "SCAN", "CONFIG|GET", "SHUTDOWN", "DEBUG", "MONITOR", "ACL|LIST", "SORT"]
)
def test_and_nothing_else(server: Server, command: str) -> None:
    assert "permissions to run" in verdict(server, command)


async def test_the_rule_suffices(server: Server) -> None:
    await works(f"redis://spillway:s3cret@{server.place}")
    server.ask("FLUSHALL")
    await works(f"redis://spillway:s3cret@{server.place}/1")
    assert server.ask("ACL", "LOG") == []


async def test_the_rule_suffices_in_a_cluster(tmp_path: Path) -> None:
    with start_cluster(tmp_path) as whole:
        (node,) = whole.nodes
        node.ask("ACL", "SETUSER", "spillway", "on", ">s3cret", *rule())
        await works(f"redis+cluster://spillway:s3cret@{node.place}")
        assert node.ask("ACL", "LOG") == []


async def test_another_user_is_told_what_to_do(server: Server) -> None:
    server.ask("ACL", "SETUSER", "reader", "on", ">s3cret", "~*", "+@read")
    said = await refused(f"redis://reader:s3cret@{server.place}")
    assert "no permissions" in said
    assert "hint: give its user the rule in the README" in said
