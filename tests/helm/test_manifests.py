"""What holds of every manifest that the chart makes, whatever the values: beyond what a schema can say."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.sdk.resources import OTELResourceDetector
from proxy import __version__
from proxy.cli.command import app
from tests.helm import chart
from tests.helm.chart import CHART, SCENARIOS, Manifest
from tests.readme import names, table
from typer.main import get_command

WORKLOADS = ("Deployment", "StatefulSet", "Pod")
EACH = pytest.mark.parametrize("scenario", SCENARIOS)


def containers(pod: Manifest, *, ours: bool = False) -> list[Manifest]:
    """All of a pod, or those that the chart itself brings."""
    found = [*pod.get("initContainers", ()), *pod["containers"]]
    return [one for one in found if not ours or one["name"] in ("spillway", "valkey", "engine", "test")]


def test_the_versions() -> None:
    meta = chart.parsed((CHART / "Chart.yaml").read_text())[0]
    assert meta["appVersion"] == __version__
    # Strict: Helm 4 takes no other.
    number = r"(0|[1-9]\d*)"
    assert re.fullmatch(rf"{number}\.{number}\.{number}(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?", meta["version"])
    assert meta["apiVersion"] == "v2"


@EACH
def test_images_are_pinned(scenario: str) -> None:
    for pod in chart.pods(chart.manifests(scenario)):
        for one in containers(pod):
            assert re.search(r":[^/:]+$", one["image"]), one["image"]
            assert not one["image"].endswith(":latest")


@EACH
def test_every_container_says_what_it_takes(scenario: str) -> None:
    for pod in chart.pods(chart.manifests(scenario)):
        for one in containers(pod):
            assert {"cpu", "memory"} <= one["resources"]["requests"].keys()
            assert "memory" in one["resources"]["limits"]
            assert "cpu" not in one["resources"]["limits"], "it would hold streams back"
        assert all("sizeLimit" in one["emptyDir"] for one in pod.get("volumes", ()) if "emptyDir" in one)


VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SECCOMP = ("RuntimeDefault", "Localhost")
SYSCTLS = {"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start"}


def pod_violations(pod: Manifest) -> Iterator[str]:
    """Controls of the standard that a pod as a whole does not keep to."""
    context = pod.get("securityContext", {})
    yield from (f"host namespaces: {name}" for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name))
    yield from ("volume types" for one in pod.get("volumes", ()) if not VOLUMES & one.keys())
    yield from ("sysctls" for one in context.get("sysctls", ()) if one["name"] not in SYSCTLS)
    if context.get("seLinuxOptions") or context.get("windowsOptions", {}).get("hostProcess"):
        yield "selinux, or a host process"
    if context.get("appArmorProfile", {}).get("type") == "Unconfined":
        yield "apparmor"
    for one in containers(pod):
        yield from container_violations(one, context)


def container_violations(one: Manifest, pod: Manifest) -> Iterator[str]:
    """The same of a container, with what it has from the pod's context."""
    own = one.get("securityContext", {})
    both = {**pod, **own}
    if own.get("privileged") or own.get("procMount", "Default") != "Default":
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "privilege escalation"
    if "ALL" not in own.get("capabilities", {}).get("drop", ()):
        yield "capabilities dropped"
    if set(own.get("capabilities", {}).get("add", ())) - {"NET_BIND_SERVICE"}:
        yield "capabilities added"
    if both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0:
        yield "runs as root"
    if both.get("seccompProfile", {}).get("type") not in SECCOMP:
        yield "seccomp"
    if any(port.get("hostPort") for port in one.get("ports", ())):
        yield "host ports"
    probes = [one[name] for name in ("livenessProbe", "readinessProbe", "startupProbe") if name in one]
    probes += one.get("lifecycle", {}).values()
    if any(probe.get(kind, {}).get("host") for probe in probes for kind in ("httpGet", "tcpSocket")):
        yield "probes of other hosts"


@EACH
def test_pods_keep_to_the_restricted_standard(scenario: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, control by control; and a step further."""
    for pod in chart.pods(chart.manifests(scenario)):
        ours = {**pod, "containers": containers(pod, ours=True), "initContainers": []}
        assert list(pod_violations(ours)) == []
        assert all(one["securityContext"]["readOnlyRootFilesystem"] is True for one in ours["containers"])
        assert pod["securityContext"]["runAsUser"] > 0


def test_what_breaks_the_standard_is_seen() -> None:
    """The check above can fail, and does for each control."""
    (pod,) = [chart.pod_of(chart.one_of(chart.manifests("default"), "Deployment", "proxy"))]
    (serving,) = pod["containers"]
    wrong = [
        {"hostPID": True},
        {"volumes": [{"name": "a", "hostPath": {"path": "/"}}]},
        {"securityContext": {**pod["securityContext"], "seccompProfile": {"type": "Unconfined"}}},
        {"securityContext": {**pod["securityContext"], "runAsNonRoot": False}},
        {"securityContext": {**pod["securityContext"], "sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
    ]
    contexts = [{"privileged": True}, {"allowPrivilegeEscalation": True}, {"runAsUser": 0}]
    contexts += [{"capabilities": {"drop": []}}, {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}]
    wrong += [
        {"containers": [{**serving, "securityContext": {**serving["securityContext"], **one}}]} for one in contexts
    ]
    wrong += [{"containers": [{**serving, "ports": [{"containerPort": 1, "hostPort": 1}]}]}]
    for one in wrong:
        assert len(list(pod_violations({**pod, **one}))) == 1, one


@EACH
def test_no_secret_is_made_or_written_down(scenario: str) -> None:
    found = chart.manifests(scenario)
    assert chart.of_kind(found, "Secret") == []
    for pod in chart.pods(found):
        for one in containers(pod, ours=True):
            for variable in one.get("env", ()):
                if re.search("PASSWORD|TOKEN|KEY", variable["name"]):
                    assert "secretKeyRef" in variable["valueFrom"], variable["name"]
                assert not re.search(r"://[^/]*:[^/@]*@", variable.get("value", "")), variable["name"]


@EACH
def test_selectors_select(scenario: str) -> None:
    """Each Service, PodDisruptionBudget, NetworkPolicy and monitor finds just the pods or Services that it is for."""
    found = chart.manifests(scenario)
    made = [one["spec"]["template"]["metadata"]["labels"] for one in found if one["kind"] in WORKLOADS[:2]]
    made += [one["metadata"]["labels"] for one in chart.of_kind(found, "Pod")]
    services = [one["metadata"]["labels"] for one in chart.of_kind(found, "Service")]
    for one in found:
        labels = selected(one)
        if labels is not None:
            among = services if one["kind"] == "ServiceMonitor" else made
            assert len([these for these in among if labels.items() <= these.items()]) == 1, one["metadata"]["name"]
    for workload in (one for one in found if one["kind"] in WORKLOADS[:2]):
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert workload["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert "app.kubernetes.io/version" not in workload["spec"]["selector"]["matchLabels"], "it could never change"


def selected(one: Manifest) -> dict[str, str] | None:
    spec: Any = one.get("spec", {})
    if one["kind"] == "Service":
        return dict(spec["selector"])
    if one["kind"] in ("PodDisruptionBudget", "ServiceMonitor", "PodMonitor"):
        return dict(spec["selector"]["matchLabels"])
    if one["kind"] == "NetworkPolicy":
        return dict(spec["podSelector"]["matchLabels"])
    if one["kind"] == "CiliumNetworkPolicy":
        return dict(spec["endpointSelector"]["matchLabels"])
    return None


@EACH
def test_ports_agree(scenario: str) -> None:
    found = chart.manifests(scenario)
    serving = chart.proxy_container(found)
    ports = {one["name"]: one["containerPort"] for one in serving["ports"]}
    env = {one["name"]: one.get("value") for one in serving["env"]}
    assert ports == {"http": int(env["SPILLWAY_PORT"] or 0), "admin": int(env["SPILLWAY_ADMIN_PORT"] or 0)}
    for kind in ("Service", "ServiceMonitor", "PodMonitor", "Ingress"):
        for one in chart.of_kind(found, kind):
            for name in re.findall(r"'(?:targetPort|port)': '(\w+)'|'port': {'name': '(\w+)'}", str(one["spec"])):
                assert {*name} - {""} <= {*ports, "valkey"}
    data = next(one for one in chart.of_kind(found, "Service", "proxy"))
    for route in chart.of_kind(found, "HTTPRoute"):
        (backend,) = route["spec"]["rules"][0]["backendRefs"]
        assert (backend["name"], backend["port"]) == (data["metadata"]["name"], data["spec"]["ports"][0]["port"])


@EACH
def test_the_program_knows_every_setting(scenario: str) -> None:
    options = {one.envvar for one in get_command(app).commands["serve"].params}  # type: ignore[attr-defined]
    known = options | {name for row in table("table: serve") for name in names(row[1])}
    given = [one["name"] for one in chart.proxy_container(chart.manifests(scenario))["env"]]
    assert len(given) == len(set(given))
    assert {name for name in given if name.startswith("SPILLWAY_")} <= known


@EACH
def test_what_is_mounted_is_there(scenario: str) -> None:
    for one in chart.manifests(scenario):
        if one["kind"] not in WORKLOADS:
            continue
        pod = chart.pod_of(one)
        volumes = {volume["name"] for volume in pod.get("volumes", ())}
        volumes |= {claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", ())}
        mounts = [mount for each in containers(pod) for mount in each.get("volumeMounts", ())]
        assert {mount["name"] for mount in mounts} <= volumes
        assert not any("subPath" in mount for mount in mounts), "it would not follow its ConfigMap"


@EACH
def test_an_edited_policy_restarts_nothing(scenario: str) -> None:
    """Only what is read at a start has a checksum."""
    found = chart.manifests(scenario)
    annotations = chart.one_of(found, "Deployment", "proxy")["spec"]["template"]["metadata"]["annotations"]
    assert [name for name in annotations if name.startswith("checksum/")] == []
    files = chart.policy_files(found)
    assert not any(text in str(chart.one_of(found, "Deployment", "proxy")) for text in files.values())


@EACH
def test_a_rollout_leaves_streams_their_time(scenario: str) -> None:
    deployment = chart.one_of(chart.manifests(scenario), "Deployment", "proxy")
    pod = chart.pod_of(deployment)
    serving = chart.proxy_container(chart.manifests(scenario))
    env = {one["name"]: one.get("value") or "" for one in serving["env"]}
    sleeps = serving.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    drains = sum(int(env[name].removesuffix("s")) for name in ("SPILLWAY_DRAIN", "SPILLWAY_DRAIN_DELAY"))
    assert sleeps + drains + 15 == pod["terminationGracePeriodSeconds"]
    assert env["SPILLWAY_WORKERS"] == "1"
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    scaled = bool(chart.of_kind(chart.manifests(scenario), "HorizontalPodAutoscaler", "proxy"))
    scaled |= bool(chart.of_kind(chart.manifests(scenario), "ScaledObject", "proxy"))
    assert ("replicas" not in deployment["spec"]) == scaled


@EACH
def test_the_token_is_mounted_only_where_it_is_of_use(scenario: str) -> None:
    found = chart.manifests(scenario)
    roles = chart.of_kind(found, "Role")
    bindings = chart.of_kind(found, "RoleBinding")
    pod = chart.pod_of(chart.one_of(found, "Deployment", "proxy"))
    assert pod["automountServiceAccountToken"] == bool(roles)
    assert [one["metadata"]["namespace"] for one in roles] == [one["metadata"]["namespace"] for one in bindings]
    for one in bindings:
        assert one["subjects"][0]["name"] == pod["serviceAccountName"]
    for one in chart.of_kind(found, "ServiceAccount"):
        assert one["automountServiceAccountToken"] is False
    assert chart.of_kind(found, "ClusterRole") == []
    others = [
        one for one in found if one["kind"] in WORKLOADS and one["metadata"]["labels"][chart.COMPONENT] != "proxy"
    ]
    assert all(chart.pod_of(one)["automountServiceAccountToken"] is False for one in others)


@EACH
def test_everything_is_labelled_and_placed(scenario: str) -> None:
    for one in chart.manifests(scenario):
        if one["metadata"]["name"].endswith(("-extra", "-as-text")):
            continue
        labels = one["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["app.kubernetes.io/instance"] == chart.RELEASE
        assert one["metadata"]["namespace"]


def test_dashboards_and_alerts_arrive_as_they_are() -> None:
    found = chart.manifests("monitoring")
    data = {name: text for one in chart.of_kind(found, "ConfigMap", "dashboard") for name, text in one["data"].items()}
    written = {f"spillway-{path.name}": path.read_text() for path in (CHART / "dashboards").glob("*.json")}
    assert data == written
    assert len(written) == 4
    rules = chart.one_of(found, "PrometheusRule")["spec"]
    assert rules == chart.parsed((CHART / "alerts" / "spillway.yaml").read_text())[0]


def test_long_names_stay_within_what_kubernetes_takes() -> None:
    rendered = chart.parsed(chart.template("-f", str(chart.values_file("monitoring")), release="a" * 53))
    assert max(len(one["metadata"]["name"]) for one in rendered) <= 63
    # Its revisions are a label of its pods: the name, a dash and ten characters.
    assert len(chart.one_of(rendered, "StatefulSet")["metadata"]["name"]) <= 52


def test_releases_with_long_names_are_told_apart() -> None:
    one, other = ("long-" * 9 + end for end in ("eu", "us"))
    made = [chart.parsed(chart.template(release=name)) for name in (one, other)]
    named = [{(each["kind"], each["metadata"]["name"]) for each in found} for found in made]
    assert named[0] & named[1] == set()


@pytest.mark.parametrize(("release", "name"), [("a.b", "a-b-spillway"), ("spillway", "spillway"), ("x", "x-spillway")])
def test_names_are_those_of_services(release: str, name: str) -> None:
    assert chart.one_of(chart.parsed(chart.template(release=release)), "Service", "proxy")["metadata"]["name"] == name


def test_an_upgrade_changes_nothing_that_cannot_be_changed(tmp_path: Path) -> None:
    """Selectors, and what a StatefulSet's volumes are made from: the API server refuses other ones."""
    values = {
        "commonLabels": {"team": "ai"},
        "podLabels": {"a": "b"},
        "image": {"tag": "9.9.9"},
        "valkey": {"podLabels": {"c": "d"}, "image": {"tag": "1.2.3"}, "auth": {"existingSecret": "s"}},
        "autoscaling": {"type": "hpa"},
        "networkPolicy": {"enabled": True},
    }
    copy = tmp_path / "chart"
    shutil.copytree(CHART, copy)
    meta = (copy / "Chart.yaml").read_text()
    (copy / "Chart.yaml").write_text(re.sub(r"(?m)^(version|appVersion): .*$", r'\1: "9.9.9"', meta))
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(values))
    options = ("--namespace", chart.NAMESPACE, "-f", str(path))
    after = chart.parsed(chart.helm("template", chart.RELEASE, str(copy), *options))
    assert [fixed(one) for one in after if fixed(one)] == [
        fixed(one) for one in chart.manifests("default") if fixed(one)
    ]


def fixed(one: Manifest) -> dict[str, Any]:
    """What of a workload an upgrade may not touch."""
    if one["kind"] not in WORKLOADS[:2]:
        return {}
    fields = ("selector", "serviceName", "volumeClaimTemplates", "podManagementPolicy")
    return {"name": one["metadata"]["name"], **{name: one["spec"].get(name) for name in fields}}


def test_labels_of_ours_keep_their_name_in_prometheus() -> None:
    """The operator puts `endpoint`, `pod`, `service` and the like on each series, over those that it has."""
    for scenario, kind, where in (
        ("monitoring", "ServiceMonitor", "endpoints"),
        ("pod-monitor", "PodMonitor", "podMetricsEndpoints"),
    ):
        (scraped,) = chart.one_of(chart.manifests(scenario), kind)["spec"][where]
        assert scraped["honorLabels"] is True
    # And nothing that ships with the chart goes by the one that would be renamed.
    written = [*(CHART / "dashboards").glob("*.json"), CHART / "alerts" / "spillway.yaml"]
    for path in written:
        assert not re.search(r"by \([^)]*\bendpoint\b|\{[^}]*\bendpoint\s*[=!]", path.read_text()), path.name


def test_alerts_lead_to_their_runbooks() -> None:
    rules = chart.one_of(chart.manifests("production"), "PrometheusRule")["spec"]["groups"]
    urls = [rule["annotations"]["runbook_url"] for group in rules for rule in group["rules"] if "alert" in rule]
    assert urls
    assert all(one.startswith("https://git.example.com/spillway/blob/main/README.md#spillway") for one in urls)
    written = (CHART / "alerts" / "spillway.yaml").read_text()
    assert len(urls) == written.count("runbook_url: README.md#spillway"), "each of them is replaced"


def test_a_dashboard_fits_a_configmap() -> None:
    for one in chart.of_kind(chart.manifests("monitoring"), "ConfigMap", "dashboard"):
        assert sum(len(text.encode()) for text in one["data"].values()) < 2**20
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert one["metadata"]["annotations"] == {"grafana_folder": "Spillway"}


def test_traces_say_which_pod_they_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    env = {one["name"]: one for one in chart.proxy_container(chart.manifests("production"))["env"]}
    # As OpenTelemetry's SDK reads it, but for what Kubernetes fills in.
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", env["OTEL_RESOURCE_ATTRIBUTES"]["value"])
    assert OTELResourceDetector().detect().attributes == {
        "deployment.environment.name": "production",
        "k8s.deployment.name": "spillway",
        "k8s.namespace.name": "llm",
        "k8s.node.name": "$(NODE_NAME)",
        "k8s.pod.name": "$(POD_NAME)",
    }
    assert env["POD_NAME"]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    names = list(env)
    # Kubernetes fills in what stands before.
    assert max(names.index("POD_NAME"), names.index("NODE_NAME")) < names.index("OTEL_RESOURCE_ATTRIBUTES")
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in str(chart.proxy_container(chart.manifests("default")))


def test_two_releases_share_a_namespace() -> None:
    one, other = (chart.parsed(chart.template(release=name)) for name in ("spillway", "second"))
    named = [{(each["kind"], each["metadata"]["name"]) for each in found} for found in (one, other)]
    assert named[0] & named[1] == set()
