"""Real Redis servers for tests: one, a master and its replica under sentinels, or a cluster.

Each is a process that can be killed, paused, and started again, with its data or empty. Ports are taken below those
that the system hands out to outgoing connections, so that a server finds its own free when it comes back.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import redis
from proxy.meters import tethered

HOST = "127.0.0.1"
PATIENCE_S = 30.0
MASTER = "mymaster"
_PORTS = range(15_000, 30_000)
_chosen = random.SystemRandom()


def program() -> str:
    """Debian's Redis. A machine without it fails these tests: what is skipped proves nothing."""
    found = shutil.which("redis-server")
    if found is None:
        raise RuntimeError("no `redis-server` on PATH (hint: apt-get install redis-server)")
    return found


def free_port() -> int:
    """A port that nobody listens on just now."""
    while True:
        port = _chosen.choice(_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port


def wait_for(what: str, condition: Callable[[], Any], timeout_s: float = PATIENCE_S) -> Any:
    """What `condition` gives as soon as that is true; an error of Redis counts as not yet."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if found := condition():
                return found
        except (redis.RedisError, OSError):
            pass
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.01)


@dataclass(eq=False, kw_only=True)
class Server:
    """One `redis-server`. `settings` are those of `redis.conf`; `admin` is how this test itself connects."""

    folder: Path
    port: int
    settings: Mapping[str, str] = field(default_factory=dict)
    sentinel: str = ""
    admin: Mapping[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    @property
    def place(self) -> str:
        return f"{HOST}:{self.port}"

    def start(self) -> None:
        """Return once it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tether = [sys.executable, "-I", "-S", str(Path(tethered.__file__)), str(os.getpid())]
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [*tether, program(), *self._arguments()], cwd=self.folder, stdout=output, stderr=output
            )
        wait_for(f"an answer of the server in {self.folder}", self._answers)

    def ask(self, *words: Any) -> Any:
        """One command, by redis-py, and the reply as the server puts it. Raises redis.RedisError."""
        given = {"socket_timeout": PATIENCE_S, "protocol": 3, "decode_responses": True, **self.admin}
        with redis.Redis(host=HOST, port=self.port, **given) as client:
            client.response_callbacks.clear()
            return client.execute_command(*words)

    def info(self, *words: str) -> dict[str, str]:
        """`INFO section`, or another command that answers in such lines."""
        lines = self.ask(*(words if len(words) > 1 else ("INFO", *words))).splitlines()
        return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}

    def kill(self) -> None:
        """`kill -9`."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        """Let it accept connections and answer nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def restart(self, *, empty: bool = False) -> None:
        """Kill it and start it again at the same port, with the files that it left or with none."""
        self.kill()
        if empty:
            shutil.rmtree(self.folder)
        self.start()

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError((self.folder / "output").read_text("utf-8", "replace"))
        return bool(self.ask("PING"))

    def _arguments(self) -> Iterator[str]:
        if self.sentinel:
            written = self.folder / "sentinel.conf"
            if not written.exists():  # a sentinel keeps what it has learnt in its own configuration
                written.write_text(self.sentinel)
            yield from (str(written), "--sentinel")
        common = {"port": str(self.port), "bind": HOST, "dir": str(self.folder), "daemonize": "no"}
        if not self.sentinel:
            # A replica that asks is served at once, not after five seconds in the hope of others; and its cluster does
            # not name it before it has heard from its master.
            common |= {"save": "", "repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"}
        for name, value in (common | dict(self.settings)).items():
            yield f"--{name}"
            yield from value.split() or [""]


@contextmanager
def start_redis(
    folder: Path, settings: Mapping[str, str] | None = None, admin: Mapping[str, Any] | None = None
) -> Iterator[Server]:
    """One server."""
    server = Server(folder=folder, port=free_port(), settings=settings or {}, admin=admin or {})
    try:
        server.start()
        yield server
    finally:
        server.kill()


@dataclass(kw_only=True)
class SentinelSet:
    """A master, its replica, and the sentinels that watch over them."""

    master: Server
    replica: Server
    sentinels: Sequence[Server]

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(one.place for one in self.sentinels)}/{MASTER}"

    @property
    def servers(self) -> tuple[Server, ...]:
        return (self.master, self.replica, *self.sentinels)

    def elected(self, sentinel: int = 0) -> int:
        """The port of the server that this sentinel calls the master."""
        return int(self.sentinels[sentinel].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)[1])

    def settled(self) -> bool:
        """Whether all know each other, and the replica has everything."""
        states = [one.ask("SENTINEL", "MASTER", MASTER) for one in self.sentinels]
        known = all((s["num-slaves"], s["num-other-sentinels"]) == ("1", str(len(states) - 1)) for s in states)
        replicas = [one.ask("SENTINEL", "REPLICAS", MASTER)[0] for one in self.sentinels]
        linked = all(r["master-link-status"] == "ok" and r["flags"] == "slave" for r in replicas)
        return known and linked and self.replica.info("replication")["master_link_status"] == "up"


@contextmanager
def start_sentinel_set(
    folder: Path,
    settings: Mapping[str, str] | None = None,
    admin: Mapping[str, Any] | None = None,
    *,
    down_after_ms: int = 500,
    sentinels: int = 3,
    sentinel_password: str = "",
) -> Iterator[SentinelSet]:
    """A master, a replica and sentinels that call the master down after so long, and most of which must agree.

    `admin` has the servers' password where `settings` set one.
    """
    admin = admin or {}
    master = Server(folder=folder / "master", port=free_port(), settings=settings or {}, admin=admin)
    following = {**(settings or {}), "replicaof": f"{HOST} {master.port}"}
    replica = Server(folder=folder / "replica", port=free_port(), settings=following, admin=admin)
    watching = (
        f"sentinel monitor {MASTER} {HOST} {master.port} {sentinels // 2 + 1}\n"
        f"sentinel down-after-milliseconds {MASTER} {down_after_ms}\n"
        f"sentinel failover-timeout {MASTER} 2500\n"
    )
    if "password" in admin:
        watching += f"sentinel auth-pass {MASTER} {admin['password']}\n"
    if sentinel_password:
        watching += f"requirepass {sentinel_password}\nsentinel sentinel-pass {sentinel_password}\n"
    asked_by = {"password": sentinel_password} if sentinel_password else {}
    guards = [
        Server(folder=folder / f"sentinel{number}", port=free_port(), sentinel=watching, admin=asked_by)
        for number in range(sentinels)
    ]
    whole = SentinelSet(master=master, replica=replica, sentinels=guards)
    with _all_of(whole.servers):
        for one in guards:
            # They say hello and look at the servers ten times as often as is usual, so that a set stands in a second.
            one.ask("SENTINEL", "DEBUG", "INFO-PERIOD", 1000, "PUBLISH-PERIOD", 200)
        wait_for("sentinels that know each other", whole.settled)
        yield whole


@dataclass(kw_only=True)
class ClusterSet:
    """Nodes of a cluster; the slots are divided evenly among the masters, which come first."""

    nodes: Sequence[Server]
    masters: int

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(node.place for node in self.nodes)}"

    def owner(self, key: str) -> Server:
        """The node that holds this key."""
        asked = next(node for node in self.nodes if node.process is not None)
        slot = asked.ask("CLUSTER", "KEYSLOT", key)
        port = next(node[0][1] for first, last, *node in asked.ask("CLUSTER", "SLOTS") if first <= slot <= last)
        return next(node for node in self.nodes if node.port == port)

    def settled(self) -> bool:
        """Whether every node that runs finds the cluster whole."""
        running = [node for node in self.nodes if node.process is not None]
        return all(
            node.info("CLUSTER", "INFO")["cluster_state"] == "ok"
            and sum(len(nodes) for _, _, *nodes in node.ask("CLUSTER", "SLOTS")) == len(self.nodes)
            for node in running
        )


@contextmanager
def start_cluster(
    folder: Path, masters: int = 1, replicas: int = 0, settings: Mapping[str, str] | None = None
) -> Iterator[ClusterSet]:
    """A cluster of so many masters; the `replicas` follow the masters in turn."""
    nodes = [_node(folder / f"node{number}", settings or {}) for number in range(masters + replicas)]
    whole = ClusterSet(nodes=nodes, masters=masters)
    with _all_of(nodes):
        bounds = [16384 * number // masters for number in range(masters + 1)]
        for node, (first, end) in zip(nodes[:masters], pairwise(bounds), strict=True):
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        for number, node in enumerate(nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            for other in nodes[:number]:  # all of them, rather than wait for gossip
                node.ask("CLUSTER", "MEET", HOST, other.port, int(other.settings["cluster-port"]))
        for number, node in enumerate(nodes[masters:]):
            followed = nodes[number % masters].ask("CLUSTER", "MYID")
            wait_for("a replica", lambda node=node, followed=followed: node.ask("CLUSTER", "REPLICATE", followed))
        wait_for("a whole cluster", whole.settled)
        yield whole


def _node(folder: Path, settings: Mapping[str, str]) -> Server:
    cluster = {"cluster-enabled": "yes", "cluster-port": str(free_port()), "cluster-node-timeout": "1000"}
    return Server(folder=folder, port=free_port(), settings={**cluster, **settings})


@contextmanager
def _all_of(servers: Sequence[Server]) -> Iterator[None]:
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.kill)
            server.start()
        yield
