"""The README's way through Kubernetes, typed as it stands, with stand-ins for what needs a cluster.

`helm` renders what it would install, and that is validated; `kubectl exec` runs the real program, `kubectl apply` puts
a Secret where pods would find it, and the request goes to a real proxy that serves what was rendered. All other
commands are noted, and the things that they name must be in the release.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from tests.e2e.processes import Served, serving
from tests.helm import chart
from tests.helm.chart import Manifest
from tests.helm.mounted import Mounted
from tests.helm.test_rendered import problems
from tests.helm.test_served import engine, policy, settings, valkey
from tests.readme import ROOT, block, blocks

STAND_INS = """
noted() { printf '%s\\n' "$(printf '%q ' "$@")" >> "$NOTES"; }  # in one piece: both ends of a pipe note at once
docker() { noted docker "$@"; }
helm() { noted helm "$@"; }
spillway() { "$PYTHON" -m proxy "$@"; }
kubectl() {
  noted kubectl "$@"
  case " $* " in
    *" apply "*) cat > "$APPLIED" ;;
    *" exec "*) while [ "$1" != -- ]; do shift; done; shift; "$@" ;;
  esac
}
"""
WITHIN_S = 20.0


@dataclass
class Reader:
    """Somebody with a terminal; what the stand-ins were told is in `commands`."""

    folder: Path
    served: Served
    env: dict[str, str] = field(default_factory=dict)

    @property
    def commands(self) -> list[list[str]]:
        return [shlex.split(line) for line in (self.folder / "notes").read_text().splitlines()]

    async def type(self, text: str) -> str:
        here = text.replace("localhost:8080", f"localhost:{self.served.port}")
        script = f"set -eo pipefail\n{STAND_INS}\n{here}\nwait"
        shell = await asyncio.create_subprocess_exec(
            *("bash", "-c", script), cwd=self.folder, env=self.env, stdout=PIPE, stderr=STDOUT
        )
        output, _ = await shell.communicate()
        assert shell.returncode == 0, f"{text}\n{output.decode()}"
        return output.decode()


@contextlib.asynccontextmanager
async def reader(tmp_path: Path) -> AsyncIterator[tuple[Reader, Mounted, dict[str, str]]]:
    """Before a release that serves, its policy's folder, and the files there."""
    pod, desk = tmp_path / "pod", tmp_path / "desk"
    pod.mkdir()
    desk.mkdir()
    (desk / "helm").symlink_to(chart.CHART)
    (desk / "policy.yaml").write_text(block("file", "policy.yaml").text)
    async with engine() as upstream, valkey(tmp_path / "store") as store_url:
        files = policy(upstream.url)
        mounted = Mounted(pod / "policy", files)
        async with serving(mounted.folder, env=settings(store_url)) as served:
            env = {
                "PATH": os.environ["PATH"],
                "HOME": str(desk),
                "PYTHON": sys.executable,
                "PYTHONPATH": str(ROOT),
                "NOTES": str(desk / "notes"),
                "APPLIED": str(desk / "applied.yaml"),
                "OPENAI_API_KEY": "sk-your-key",
                "SPILLWAY_ADMIN_URL": f"http://127.0.0.1:{served.admin_port}",
            }
            yield Reader(desk, served, env), mounted, files


async def test_a_newcomer_can_follow_the_page(tmp_path: Path) -> None:
    ways = [one for one in blocks() if one.notes.get("run") == "cluster"]
    assert len(ways) == 6
    async with reader(tmp_path) as (somebody, mounted, files):
        for one in ways:
            wanted = one.notes.get("expect", "")
            output = await somebody.type(one.text)
            if wanted:
                async with asyncio.timeout(WITHIN_S):
                    while wanted not in output:  # a key takes its time
                        output = await somebody.type(one.text)
            applied = somebody.folder / "applied.yaml"
            if "KEY" not in somebody.env and applied.exists():
                (somebody.env["KEY"],) = re.findall(r"\bsk-spw-\S+", output)
                mounted.update({**files, **yaml.safe_load(applied.read_text())["stringData"]})
        assert "local" in await somebody.type("spillway status")
        check(somebody)


def check(somebody: Reader) -> None:
    """What was typed would have done what it is meant to."""
    given = [words[1:] for words in somebody.commands if words[0] == "helm"]
    releases = list(installed(given, somebody.folder))
    assert [len(problems(one)) for found in releases for one in found if problems(one)] == []
    images = {one["image"] for found in releases[:-1] for pod in chart.pods(found) for one in pod["containers"]}
    pushed = [words[2] for words in somebody.commands if words[:2] == ["docker", "push"]]
    built = [words[3] for words in somebody.commands if words[:3] == ["docker", "build", "-t"]]
    assert pushed == built
    assert {one for one in images if "valkey" not in one} == set(pushed)
    there = {f"{one['kind'].lower()}/{one['metadata']['name']}" for found in releases for one in found}
    there |= {f"persistentvolumeclaim/{name}" for name in claims(releases[-1])}
    there |= {f"secret/{name}" for name in secrets(releases)}
    kubectl = [words for words in somebody.commands if words[0] == "kubectl"]
    named = {word for words in kubectl for word in words if re.fullmatch(r"[a-z]+/[a-z0-9-]+", word)} - {"apps/first"}
    assert named == {
        "deployment/spillway",
        "service/spillway",
        "service/spillway-admin",
        "persistentvolumeclaim/data-spillway-valkey-0",
        "secret/spillway-keys",
        "secret/llm-providers",
    }
    assert named <= there
    assert all(words[1:3] == ["--namespace", "llm"] for words in kubectl if words[1] != "apply")
    ports = {chart.one_of(releases[0], "Service", one)["spec"]["ports"][0]["port"] for one in ("proxy", "admin")}
    assert ports == {int(words[-1]) for words in kubectl if "port-forward" in words} == {8080, 9090}


def installed(given: list[list[str]], folder: Path) -> list[list[Manifest]]:
    """What each `helm install` or `upgrade` makes, which keeps the values before it; the others Helm has to know."""
    kept: list[str] = []
    found = []
    for verb, *words in given:
        if verb not in ("install", "upgrade"):
            flags = [word for word in words if word.startswith("--")]
            known = chart.helm(verb, "--help")
            assert all(flag in known for flag in flags), words
            continue
        release, place, *options = words
        assert (release, place) == ("spillway", "./helm")
        keeps = {"--reuse-values", "--reset-then-reuse-values"} & set(options)
        assert bool(keeps) == (verb == "upgrade")
        known = chart.helm(verb, "--help")
        assert all(flag in known for flag in options if flag.startswith("--"))
        kept += [one for one in options if one not in (*keeps, "--create-namespace")]
        absolute = [one.replace("policy.text=", f"policy.text={folder}/") for one in kept]
        found.append(chart.parsed(chart.template(*absolute)))
    assert len(found) == 4
    return found


def claims(found: list[Manifest]) -> list[str]:
    """The volumes that StatefulSets claim."""
    sets = chart.of_kind(found, "StatefulSet")
    return [
        f"{claim['metadata']['name']}-{one['metadata']['name']}-{number}"
        for one in sets
        for claim in one["spec"]["volumeClaimTemplates"]
        for number in range(one["spec"]["replicas"])
    ]


def secrets(releases: list[list[Manifest]]) -> set[str]:
    """The Secrets that pods look for."""
    pods = [chart.pod_of(chart.one_of(found, "Deployment", "proxy")) for found in releases]
    return set(re.findall(r"'(?:secretRef|secret)': \{'name': '([^']+)'", str(pods)))
