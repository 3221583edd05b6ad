"""A real vLLM on this machine's CPU, serving the tiny model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.engine.install import engine_environment, tiny_model
from tests.engine.processes import free_port, serving

START_DEADLINE_S = 240.0
SERVED_NAME = "tiny"
KEY = "engine-key"
MAX_MODEL_LEN = 8192

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
}
GENERATE = [
    "--enable-auto-tool-choice",
    "--tool-call-parser=hermes",
    "--tool-strict-level=parameter",
    '--structured-outputs-config={"backend": "xgrammar", "disable_any_whitespace": true}',
]
GUARDED = [f"--api-key={KEY}"]
EMBED = ["--runner=pooling", "--convert=embed"]


@dataclass(frozen=True)
class Engine:
    """A running vLLM. `root` is its address, `url` its API root."""

    root: str
    log: Path

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels, read now."""
        page = httpx.get(f"{self.root}/metrics", timeout=10).text
        lines = [line for line in page.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        assert lines, f"vLLM has no metric `{name}`"
        return sum(float(line.rpartition(" ")[2]) for line in lines)


@contextmanager
def engine(folder: Path, name: str, *flags: str) -> Iterator[Engine]:
    """A vLLM with these flags, ready for its first request."""
    environment = engine_environment()
    port = free_port()
    root = f"http://127.0.0.1:{port}"
    log = folder / f"{name}.log"
    command: list[str | Path] = [
        environment / "bin" / "vllm",
        "serve",
        tiny_model(environment),
        f"--served-model-name={SERVED_NAME}",
        "--dtype=float32",
        "--enforce-eager",
        f"--max-model-len={MAX_MODEL_LEN}",
        "--seed=0",
        "--host=127.0.0.1",
        f"--port={port}",
        *flags,
    ]
    with serving(command, ready=f"{root}/health", log=log, deadline_s=START_DEADLINE_S, env=ENVIRONMENT):
        yield Engine(root, log)
