"""The systems that a benchmark compares: how each is configured, started, and found to be serving.

Each has the mock upstream behind it and one worker. Peers run with what a user would switch off for speed switched
off; Spillway runs with what a user needs switched on: keys, several targets and routes, metering, the request log.
"""

from __future__ import annotations

import hashlib
import http.client
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import load
from tests.bench.cores import pinned
from tests.bench.installs import Interpreter, MissingError, peer, program
from tests.bench.processes import Tree

ROOT = Path(__file__).resolve().parents[2]
VLLM_ROUTER = "0.1.17"
LITELLM = "1.106.2"
READY_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a system is started in: the upstream's port, the core it gets, a folder of its own, and the interpreter."""

    upstream_port: int
    core: int
    folder: Path
    interpreter: Interpreter


@dataclass(frozen=True, slots=True)
class System:
    """One system, ready to be started. `command` is empty for the one without a proxy.

    `streams` and `idle_streams` are how many it is asked to carry at 100 events/s and at 1 event/s each: less than the
    others for one that would otherwise be measured far past saturation. `admin_port` is where its meters can be read.
    """

    name: str
    version: str
    port: int
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    headers: tuple[str, ...] = ()
    streams: int = 400
    idle_streams: int = 1000
    starts: int = 3
    note: str = ""
    admin_port: int | None = None

    def start(self, surroundings: Surroundings) -> tuple[Tree, float]:
        """Spawn it and wait for its first 200; the tree, and the seconds that took.

        Raises:
            MissingError: it ended, or did not serve in time.
        """
        log = surroundings.folder / f"{self.name}.log"
        tree = Tree(pinned(surroundings.core, list(self.command)), log=log, env=self.env, cwd=ROOT)
        try:
            self._await_first_answer(tree)
        except BaseException:
            tree.end()
            raise
        start_s = time.monotonic() - tree.started_s
        tree.share_priority()
        return tree, start_s

    def _await_first_answer(self, tree: Tree) -> None:
        status = "no answer"
        while time.monotonic() < tree.started_s + READY_WITHIN_S:
            if tree.exit_status is not None:
                raise MissingError(f"{self.name} ended with status {tree.exit_status}: {tree.last_words()}")
            try:
                if (code := self._ask_once()) == 200:
                    return
                status = f"status {code}"
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.002)
        raise MissingError(f"{self.name} did not serve within {READY_WITHIN_S:.0f} s ({status}): {tree.last_words()}")

    def _ask_once(self) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            headers = dict(header.split(": ", 1) for header in self.headers) | {"Content-Type": "application/json"}
            connection.request("POST", load.CHAT_PATH, body=load.body(1024), headers=headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()


def free_port() -> int:
    """A TCP port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def direct(surroundings: Surroundings) -> System:
    """No proxy at all: what the generator and the upstream can do, and the latency that the others add to."""
    return System(name="direct", version="", port=surroundings.upstream_port)


NGINX_CONF = """\
# One worker, keep-alive to the upstream, nothing buffered that streams.
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/nginx-bodies;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    client_body_buffer_size 256k;
    keepalive_requests 100000000;
    upstream mock {{
        server 127.0.0.1:{upstream_port};
        keepalive 2048;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=8192;
        tcp_nodelay on;
        location / {{
            proxy_pass http://mock;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_request_buffering off;
        }}
    }}
}}
"""


def nginx(surroundings: Surroundings) -> System:
    """nginx as a plain reverse proxy: no keys, no log, no policy. What forwarding costs in C."""
    binary = program("nginx", package="nginx-light")
    port = free_port()
    conf = surroundings.folder / "nginx.conf"
    conf.write_text(
        NGINX_CONF.format(folder=surroundings.folder, upstream_port=surroundings.upstream_port, port=port),
        encoding="utf-8",
    )
    version = _said_by(binary, "-v").rpartition("/")[2]
    return System(
        name="nginx", version=version, port=port, command=(binary, "-c", str(conf), "-p", str(surroundings.folder))
    )


def vllm_router(surroundings: Surroundings) -> System:
    """The Rust router that PyPI carries as `vllm-router`, with a cheaper policy than its default."""
    folder = peer("vllm-router", f"vllm-router=={VLLM_ROUTER}", surroundings.interpreter)
    port = free_port()
    command = [str(folder / "vllm-router"), "--host", "127.0.0.1", "--port", str(port), "--policy", "round_robin"]
    command += ["--worker-urls", f"http://127.0.0.1:{surroundings.upstream_port}", "--log-level", "warning"]
    command += ["--prometheus-port", str(free_port())]
    return System(name="vllm-router", version=VLLM_ROUTER, port=port, command=tuple(command))


LITELLM_KEY = "sk-bench-litellm"
LITELLM_CONFIG = """\
model_list:
  - model_name: {model}
    litellm_params:
      model: openai/{model}
      api_base: http://127.0.0.1:{upstream_port}/v1
      api_key: sk-upstream
litellm_settings: {{num_retries: 0, telemetry: false}}
router_settings: {{num_retries: 0}}
general_settings: {{master_key: {key}}}
"""


def litellm(surroundings: Surroundings) -> System:
    """LiteLLM's proxy in its production mode, without a database, one worker."""
    folder = peer("litellm", f"litellm[proxy]=={LITELLM}", surroundings.interpreter)
    port = free_port()
    config = surroundings.folder / "litellm.yaml"
    config.write_text(
        LITELLM_CONFIG.format(model=load.MODEL, upstream_port=surroundings.upstream_port, key=LITELLM_KEY),
        encoding="utf-8",
    )
    return System(
        name="litellm",
        version=LITELLM,
        port=port,
        command=(
            str(folder / "litellm"),
            "--config",
            str(config),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--num_workers",
            "1",
        ),
        env={
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
        headers=(f"Authorization: Bearer {LITELLM_KEY}",),
        streams=5,
        idle_streams=40,
        note="5 streams at 100 events/s, 40 at 1/s and these scaled to 1,000: more would be far past saturation",
        starts=1,
    )


SPILLWAY_KEY = "sk-bench-spillway"
SPILLWAY_POLICY = """\
version: 1
targets:
  pool:
    lane: dedicated
    engine: openai
    url: http://127.0.0.1:{upstream_port}/v1
    model: {model}
    region: eu-west-1
    retention: zero
    gpus: {{type: H100, count: 4, usd_per_hour: 2.99}}
    max_in_flight: 4096
  api:
    lane: shared
    provider: openai
    url: http://127.0.0.1:{upstream_port}/v1
    model: {model}
    api_key: ${{BENCH_UPSTREAM_KEY}}
    region: us
    retention: 30d
    price: {{input: 0.88, output: 0.88}}
models:
  {model}: [pool, api]
tenants:
  bank: {{keys: ["sha256:{other_digest}"], tags: [gdpr]}}
  growth: {{keys: ["sha256:{digest}"]}}
routes:
  - name: gdpr
    match: {{tags: [gdpr]}}
    require: {{region: eu-*, retention: zero}}
  - name: nightly
    match: {{traffic: offline}}
    prefer: dedicated
  - name: default
    want: {{ttft_p99: 2s}}
    prefer: cost
"""


def spillway(surroundings: Surroundings) -> System:
    """Spillway as a user runs it: keys, two targets, three routes, metering into its own store, a line a request."""
    port, admin_port, data = free_port(), free_port(), surroundings.folder / "spillway-data"
    policy = surroundings.folder / "bench-policy.yaml"
    policy.write_text(
        SPILLWAY_POLICY.format(
            model=load.MODEL,
            upstream_port=surroundings.upstream_port,
            digest=hashlib.sha256(SPILLWAY_KEY.encode()).hexdigest(),
            other_digest=hashlib.sha256(b"sk-bench-other").hexdigest(),
        ),
        encoding="utf-8",
    )
    python = surroundings.interpreter.path
    command = [python, "-m", "proxy", "serve", "--policy", str(policy), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--admin-port", str(admin_port), "--workers", "1"]
    return System(
        name="spillway",
        version=_said_by(python, "-c", "import proxy; print(proxy.__version__)"),
        port=port,
        command=tuple(command),
        env={"SPILLWAY_DATA_DIR": str(data), "BENCH_UPSTREAM_KEY": "sk-upstream"},
        headers=(f"Authorization: Bearer {SPILLWAY_KEY}",),
        admin_port=admin_port,
    )


SYSTEMS: Mapping[str, Callable[[Surroundings], System]] = {
    "direct": direct,
    "nginx": nginx,
    "vllm-router": vllm_router,
    "litellm": litellm,
    "spillway": spillway,
}


def _said_by(*command: str) -> str:
    """What a program says of itself on either stream."""
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    return (said.stdout + said.stderr).strip()
