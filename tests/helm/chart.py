"""The chart as Helm renders it: once for each set of values and process, as objects that tests look into."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm"
HELM = Path(sys.executable).parent / "helm"
RELEASE, NAMESPACE = "spillway", "llm"
SCENARIOS = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
COMPONENT = "app.kubernetes.io/component"
_BEFORE = ("--kube-version", "1.35.0")

Manifest = dict[str, Any]


class NotRendered(Exception):
    """Helm refused; the text is what it said."""


def helm(*arguments: str) -> str:
    """What Helm prints. Raises NotRendered."""
    done = subprocess.run([HELM, *arguments], capture_output=True, text=True, cwd=CHART, check=False)
    if done.returncode:
        raise NotRendered(done.stderr + done.stdout)
    return done.stdout


@functools.cache
def text(scenario: str) -> str:
    """One of `helm/ci`, rendered as `helm install` would send it."""
    return template("-f", str(values_file(scenario)))


def kept(scenario: str) -> str:
    """The same, as it is kept for reviews: of the files that the chart carries along, only the names."""
    rendered = text(scenario)
    for path in (*sorted((CHART / "dashboards").glob("*.json")), CHART / "alerts" / "spillway.yaml"):
        for depth in (2, 4):
            carried = "\n".join(" " * depth + line for line in path.read_text().strip("\n").split("\n"))
            rendered = rendered.replace(carried, f"{' ' * depth}({path.relative_to(CHART)})")
    return rendered


def template(*options: str, release: str = RELEASE) -> str:
    """The chart rendered with these options of Helm. Raises NotRendered."""
    return helm("template", release, str(CHART), "--namespace", NAMESPACE, *_BEFORE, *options)


def given(values: object, folder: Path) -> list[Manifest]:
    """The chart's manifests with these values. Raises NotRendered."""
    path = folder / "values.yaml"
    path.write_text(yaml.safe_dump(values))
    return parsed(template("-f", str(path)))


def values_file(scenario: str) -> Path:
    return CHART / "ci" / f"{scenario}-values.yaml"


@functools.cache
def manifests(scenario: str) -> list[Manifest]:
    """Its manifests. They are shared: nobody changes them."""
    return parsed(text(scenario))


def parsed(rendered: str) -> list[Manifest]:
    return [one for one in yaml.safe_load_all(rendered) if one is not None]


def of_kind(found: Iterable[Manifest], kind: str, component: str = "") -> list[Manifest]:
    """Those of a kind, and of a component if one is named."""
    return [
        one
        for one in found
        if one["kind"] == kind and component in ("", one["metadata"].get("labels", {}).get(COMPONENT, ""))
    ]


def one_of(found: Iterable[Manifest], kind: str, component: str = "") -> Manifest:
    (one,) = of_kind(found, kind, component)
    return one


def pod_of(workload: Manifest) -> Manifest:
    """The spec of the pods that a manifest makes."""
    spec: Manifest = workload["spec"] if workload["kind"] == "Pod" else workload["spec"]["template"]["spec"]
    return spec


def pods(found: Iterable[Manifest]) -> list[Manifest]:
    """The specs of all pods."""
    return [pod_of(one) for one in found if one["kind"] in ("Deployment", "StatefulSet", "Pod")]


def proxy_container(found: Iterable[Manifest]) -> Manifest:
    """The container that serves."""
    containers = pod_of(one_of(found, "Deployment", "proxy"))["containers"]
    return next(one for one in containers if one["name"] == "spillway")


def policy_files(found: Iterable[Manifest]) -> dict[str, str]:
    """What the policy's ConfigMap holds; nothing where it is not the chart's."""
    data = [one["data"] for one in of_kind(found, "ConfigMap", "proxy") if one["metadata"]["name"].endswith("-policy")]
    return data[0] if data else {}
