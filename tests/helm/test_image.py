"""The image of the Dockerfile and the pods of the chart fit each other; without a Docker daemon, by what both say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.markers import Marker
from tests.helm import chart
from tests.helm.chart import ROOT, SCENARIOS
from tests.test_packaging import arguments, stages

FINAL = stages()[-1]
ENV = dict(re.findall(r"(\w+)=(\S+)", " ".join(arguments(FINAL, "ENV"))))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_pods_run_as_the_images_user(scenario: str) -> None:
    context = chart.pod_of(chart.one_of(chart.manifests(scenario), "Deployment", "proxy"))["securityContext"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == arguments(FINAL, "USER")[-1]
    assert context["fsGroup"] == context["runAsGroup"], "or it could not write to its volumes"


def test_what_it_writes_to_is_a_volume() -> None:
    """Its root is read-only; the policy is mounted where it looks for one."""
    serving = chart.proxy_container(chart.manifests("default"))
    mounts = {one["mountPath"]: one for one in serving["volumeMounts"]}
    assert {path for path, one in mounts.items() if not one.get("readOnly")} == {ENV["SPILLWAY_DATA_DIR"], "/tmp"}
    assert {path for path, one in mounts.items() if one.get("readOnly")} == {ENV["SPILLWAY_POLICY"]}
    env = {one["name"]: one.get("value") for one in serving["env"]}
    for name in ("SPILLWAY_HOST", "SPILLWAY_POLICY", "SPILLWAY_DATA_DIR"):
        assert env[name] == ENV[name]
    assert arguments(FINAL, "VOLUME") == [ENV["SPILLWAY_DATA_DIR"]]


def test_pods_start_what_the_image_starts() -> None:
    serving = chart.proxy_container(chart.manifests("default"))
    assert not {"command", "args"} & serving.keys()
    assert [str(one["containerPort"]) for one in serving["ports"]] == arguments(FINAL, "EXPOSE")[0].split()


def test_no_step_is_for_one_architecture() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert not re.search(r"amd64|x86_64|aarch64|arm64|--platform=", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    bases = [argument for stage in stages() for argument in arguments(stage, "FROM")]
    assert {base.split()[0] for base in bases} == {"python:${PYTHON}"}, "official images have both architectures"
    lock = (ROOT / "requirements.lock").read_text()
    markers = [Marker(one) for one in re.findall(r" ; (.*?) \\$", lock, re.MULTILINE)]
    linux = {"sys_platform": "linux", "platform_system": "Linux", "python_full_version": "3.13.0"}
    assert len(markers) > 10
    for one in markers:
        assert one.evaluate({**linux, "platform_machine": "x86_64"}) == one.evaluate(
            {**linux, "platform_machine": "aarch64"}
        ), str(one)
    assert not re.search(r" @ (file|git|https?):", lock), "a wheel of one platform"


def test_the_tag_is_one_that_is_pushed() -> None:
    """Nothing is pulled from a public registry under a name that somebody else could take."""
    serving = chart.proxy_container(chart.manifests("default"))
    assert (
        serving["image"] == f"spillway:{chart.parsed((Path(chart.CHART) / 'Chart.yaml').read_text())[0]['appVersion']}"
    )
