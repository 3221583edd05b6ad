"""Roles and network policies follow the policy's text: everything that it names is let through, and nothing else.

What the program itself compiles out of a policy is the measure here, not the chart's own reading of it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from proxy.meters.prices import PriceList
from proxy.policy.compile import compile_policy
from proxy.policy.discovery import KubernetesService
from proxy.policy.gpus import KubernetesReplicas
from proxy.policy.model import Snapshot, Target
from proxy.policy.wake import HttpWake, KubernetesWake
from tests.helm import chart, providers
from tests.helm.chart import NAMESPACE, SCENARIOS, Manifest

WALL = {"networkPolicy": {"enabled": True}}
OWN = [name for name in SCENARIOS if chart.policy_files(chart.manifests(name))]
WALLED = [name for name in OWN if chart.of_kind(chart.manifests(name), "NetworkPolicy", "proxy")]
POLICIES = [path for path in sorted((chart.ROOT / "policies").rglob("*.yaml")) if not path.name.endswith(".test.yaml")]
PUBLIC_ADDRESS = "93.184.215.14"


def compiled(found: list[Manifest], folder: Path) -> Snapshot:
    """The policy of a rendered ConfigMap, compiled by the program."""
    place = folder / "policy"
    place.mkdir()
    files = chart.policy_files(found)
    for name, text in files.items():
        (place / name).write_text(text)
    names = set(re.findall(r"\$\{(\w+)\}", "".join(files.values())))
    env = {name: hashlib.sha256(name.encode()).hexdigest() for name in names}  # some are keys' digests
    return compile_policy(place, env=env, price_of=PriceList.load().price_of)


@pytest.mark.parametrize("scenario", OWN)
def test_the_policy_compiles(scenario: str, tmp_path: Path) -> None:
    assert compiled(chart.manifests(scenario), tmp_path).models


def test_text_arrives_to_the_letter(tmp_path: Path) -> None:
    """Variables, templates and trailing newlines are the policy's business, not Helm's."""
    text = "# {{ .Values.nope }} ${HOME}\n" + (chart.CHART / "files" / "policy.yaml").read_text() + "\n# `end`\n"
    assert chart.policy_files(chart.given({"policy": {"text": text}}, tmp_path)) == {"policy.yaml": text}


def test_a_file_of_ones_own_leaves_nothing_of_the_default(tmp_path: Path) -> None:
    files = {"10-own.yaml": "version: 1\n", "20-open.yaml": "auth: none\n"}
    assert chart.policy_files(chart.given({"policy": {"files": files}}, tmp_path)) == files


@pytest.mark.parametrize("scenario", WALLED)
def test_whatever_the_policy_names_is_let_through(scenario: str, tmp_path: Path) -> None:
    found = chart.manifests(scenario)
    wanted = list(places(compiled(found, tmp_path)))
    assert wanted
    assert [place for place in wanted if not allowed(found, *place)] == []


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_every_policy_of_the_project_is_read_as_the_program_reads_it(path: Path, tmp_path: Path) -> None:
    """Helm has a reader of YAML of its own."""
    text = path.read_text()
    if "\ntenants:" not in text:
        text += "tenants: {apps: {keys: []}}\n"  # or no pod would listen
    found = chart.given({**WALL, "policy": {"text": text}}, tmp_path)
    wanted = {place for place in places(compiled(found, tmp_path)) if place[0] not in ("localhost", "127.0.0.1")}
    assert [place for place in wanted if not allowed(found, *place)] == []
    ports = {one["port"] for rule in egress(found)[2:] for one in rule.get("ports", ())}
    assert ports == {port for _, port in wanted}, "no more than that"


@pytest.mark.parametrize("scenario", WALLED)
def test_no_rule_is_without_peers(scenario: str) -> None:
    """To Kubernetes an empty `to` is everywhere."""
    assert all(rule["to"] for rule in egress(chart.manifests(scenario)))


@pytest.mark.parametrize("scenario", WALLED)
def test_nothing_else_is_let_through(scenario: str) -> None:
    found = chart.manifests(scenario)
    for host, port in (("web.elsewhere.svc", 80), ("web.elsewhere.svc", 8000), ("10.66.0.1", 8000), ("10.66.0.1", 22)):
        assert not allowed(found, host, port), (scenario, host, port)
    for port in (22, 25, 8080):
        assert not allowed(found, "exfiltration.example.com", port)


def places(snapshot: Snapshot) -> Iterator[tuple[str, int]]:
    """(host, port) of all that the program would connect to."""
    for target in snapshot.targets.values():
        yield from (_place(url) for url in target.urls)
        if isinstance(target.wake, HttpWake):
            yield _place(target.wake.url)


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def allowed(found: list[Manifest], host: str, port: int) -> bool:
    """Whether the pods' egress has a rule for it."""
    rules = egress(found)
    if any(_port_fits(rule, port) and any(_fits(peer, host) for peer in rule["to"]) for rule in rules):
        return True
    named = [rule for one in chart.of_kind(found, "CiliumNetworkPolicy") for rule in one["spec"]["egress"]]
    return any({"matchName": host} in rule.get("toFQDNs", ()) and str(port) in str(rule["toPorts"]) for rule in named)


def egress(found: list[Manifest]) -> list[dict[str, Any]]:
    """The pods' rules: first those for the DNS and the store."""
    rules: list[dict[str, Any]] = chart.one_of(found, "NetworkPolicy", "proxy")["spec"]["egress"]
    return rules


def _port_fits(rule: dict[str, Any], port: int) -> bool:
    return port in (one["port"] for one in rule.get("ports", ({"port": port},)))


def _fits(peer: dict[str, Any], host: str) -> bool:
    """Whether a peer takes in a host: a Service's namespace, an address, or any address that a name may have."""
    inside = re.sub(r"\.cluster\.local$", "", host)
    if "namespaceSelector" in peer:
        labels = peer["namespaceSelector"].get("matchLabels", {})
        namespace = re.sub(r"\.svc$", "", inside).rpartition(".")[2] if "." in inside else NAMESPACE
        return labels.get("kubernetes.io/metadata.name") == namespace
    if "ipBlock" not in peer or inside.endswith(".svc") or "." not in inside.replace(":", "."):
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = ipaddress.ip_address("10.9.8.7" if host.endswith(".internal") else PUBLIC_ADDRESS)
    block = peer["ipBlock"]
    if block["cidr"] == "20.232.0.0/16" and not host.endswith(".internal"):
        return "." in host and not host[0].isdigit()  # the provider's, whatever its address is
    return _in(address, block["cidr"]) and not any(_in(address, one) for one in block.get("except", ()))


def _in(address: ipaddress.IPv4Address | ipaddress.IPv6Address, cidr: str) -> bool:
    network = ipaddress.ip_network(cidr)
    return address.version == network.version and address in network


def test_without_a_shared_target_nothing_public_is_open() -> None:
    found = chart.parsed(chart.template("--set", "networkPolicy.enabled=true"))
    assert allowed(found, "vllm", 8000)
    assert not allowed(found, "api.openai.com", 443)
    assert "0.0.0.0/0" not in str(chart.one_of(found, "NetworkPolicy", "proxy"))
    assert str(egress(found)).count("ipBlock") == 1, "the DNS cache"


def test_a_public_target_opens_no_private_address() -> None:
    found = chart.manifests("policy-text")
    assert allowed(found, "api.openai.com", 443)
    for private in ("10.0.0.1", "172.31.255.1", "192.168.1.1", "100.64.0.1", "169.254.169.254"):
        assert not allowed(found, private, 443)


def test_cilium_knows_hosts_by_name() -> None:
    found = chart.manifests("cilium")
    assert allowed(found, "api.together.ai", 443)
    assert not allowed(found, "api.openai.com", 443)
    assert "0.0.0.0/0" not in str(found)


@pytest.mark.parametrize(
    ("url", "peer"),
    [
        ("http://vllm:8000/v1", {"namespaceSelector": NAMESPACE, "port": 8000}),
        ("http://vllm.inference:8000/v1", {"namespaceSelector": "inference", "port": 8000}),
        ("http://vllm.inference.svc/v1", {"namespaceSelector": "inference", "port": 80}),
        ("https://vllm.inference.svc/v1", {"namespaceSelector": "inference", "port": 443}),
        ("http://vllm-0.vllm.inference.svc.cluster.local:1/v1", {"namespaceSelector": "inference", "port": 1}),
        ("http://VLLM.Inference.SVC.:8000/v1", {"namespaceSelector": "inference", "port": 8000}),
        ("http://10.1.2.3:8000/v1", {"cidr": "10.1.2.3/32", "port": 8000}),
        ("http://[fd00::1]:8000/v1", {"cidr": "fd00::1/128", "port": 8000}),
        ("https://[2001:db8::1]/v1", {"cidr": "2001:db8::1/128", "port": 443}),
        ("http://gpu.internal:8000/v1", {"cidr": "10.0.0.0/8", "port": 8000}),
        ("http://gpu.corp.lan:8000/v1", {"cidr": "10.0.0.0/8", "port": 8000}),
        ("https://example.com/v1", {"cidr": "0.0.0.0/0", "port": 443}),
        ("https://llm.example.com:8443/v1", {"cidr": "0.0.0.0/0", "port": 8443}),
        ("http://localhost:8000/v1", None),
        ("http://127.0.0.1:8000/v1", None),
        ("http://[::1]:8000/v1", None),
    ],
)
def test_where_a_url_leads(url: str, peer: dict[str, Any] | None, tmp_path: Path) -> None:
    target = {"lane": "dedicated", "engine": "vllm", "url": url, "model": "m"}
    text = yaml.safe_dump({"version": 1, "auth": "none", "targets": {"t": target}})
    found = chart.given({**WALL, "policy": {"text": text}}, tmp_path)
    assert [_opened(rule) for rule in egress(found)[2:]] == ([] if peer is None else [peer])


def _opened(rule: dict[str, Any]) -> dict[str, Any]:
    """The first peer of a rule, and its first port."""
    one, port = rule["to"][0], rule["ports"][0]["port"]
    if "ipBlock" in one:
        return {"cidr": one["ipBlock"]["cidr"], "port": port}
    return {"namespaceSelector": one["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], "port": port}


@pytest.mark.parametrize(
    ("url", "ports"),
    [
        ("redis://store.data.svc/0", [("data", 6379)]),
        ("rediss://spillway@store.data.svc:6380/0?ca=/a/b,c.crt", [("data", 6380)]),
        ("redis+cluster://a.data.svc:7000,b.data.svc:7001", [("data", 7000), ("data", 7001)]),
        (
            "redis+sentinel://u@a.one.svc,b.two.svc:26380/mymaster/0?sentinel_username=x",
            [("one", 26379), ("one", 6379), ("two", 26380), ("two", 6379)],
        ),
        ("valkey://10.1.1.1:6379", [("10.1.1.1/32", 6379)]),
    ],
)
def test_the_store_is_let_through(url: str, ports: list[tuple[str, int]], tmp_path: Path) -> None:
    found = chart.given({**WALL, "valkey": {"enabled": False}, "redis": {"external": {"url": url}}}, tmp_path)
    rules = egress(found)[1 : 1 + len(ports)]
    seen = [(opened.get("namespaceSelector", opened.get("cidr")), opened["port"]) for opened in map(_opened, rules)]
    assert seen == ports


def test_the_api_server_only_where_it_is_asked() -> None:
    for scenario in WALLED:
        found = chart.manifests(scenario)
        assert bool(chart.of_kind(found, "Role")) == (6443 in _ports(found)), scenario


def _ports(found: list[Manifest]) -> set[int]:
    return {one["port"] for rule in egress(found) for one in rule.get("ports", ())}


def test_roles_are_just_what_the_program_asks_for(tmp_path: Path) -> None:
    found = chart.manifests("discovery")
    targets = list(compiled(found, tmp_path).targets.values())
    slices = {namespace for target in targets for namespace in _asked(target)}
    woken = {
        (one.wake.namespace, f"{one.wake.workload}s/scale", one.wake.name)
        for one in targets
        if isinstance(one.wake, KubernetesWake)
    }
    roles = chart.of_kind(found, "Role")
    rules = [(one["metadata"]["namespace"], rule) for one in roles for rule in one["rules"]]
    assert {namespace for namespace, rule in rules if rule["resources"] == ["endpointslices"]} == slices
    scaling = [(namespace, rule) for namespace, rule in rules if rule["resources"] != ["endpointslices"]]
    assert {(at, rule["resources"][0], name) for at, rule in scaling for name in rule["resourceNames"]} == woken
    assert {tuple(rule["verbs"]) for _, rule in scaling} == {("get", "patch")}
    assert {tuple(rule["verbs"]) for at, rule in rules if "resourceNames" not in rule} == {("get", "list", "watch")}


def _asked(target: Target) -> Iterator[str]:
    """Namespaces whose EndpointSlices the program reads for a target."""
    if isinstance(target.discovery, KubernetesService):
        yield target.discovery.namespace
    replicas = None if target.gpus is None else target.gpus.replicas
    if isinstance(replicas, KubernetesReplicas):
        yield replicas.namespace


def test_releases_of_one_name_may_read_the_same_namespace() -> None:
    """Helm lets nobody take over what is another release's."""
    values = ("-f", str(chart.values_file("discovery")))
    releases = [
        chart.parsed(chart.helm("template", "spillway", ".", "--namespace", one, *values)) for one in ("a", "b")
    ]
    for kind in ("Role", "RoleBinding"):
        named = [
            {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in chart.of_kind(each, kind)}
            for each in releases
        ]
        assert named[0] & named[1] == set()
    for found in releases:
        bound = {(one["metadata"]["namespace"], one["roleRef"]["name"]) for one in chart.of_kind(found, "RoleBinding")}
        assert bound == {
            (one["metadata"]["namespace"], one["metadata"]["name"]) for one in chart.of_kind(found, "Role")
        }


def test_private_names_open_no_metadata_service() -> None:
    """A NetworkPolicy knows no names: where one may be anywhere private, that is not where clouds hand out keys."""
    found = chart.manifests("walled")
    assert allowed(found, "gpu.corp.internal", 8443)
    assert "169.254.0.0" not in str([rule for rule in egress(found) if _port_fits(rule, 8443)])
    for metadata in ("169.254.169.254", "fe80::a9fe:a9fe"):
        assert not any(allowed(found, metadata, port) for port in (80, 443, 8443))


@pytest.mark.parametrize(
    ("endpoint", "host", "port"),
    [
        ("http://collector.otel.svc:4318", "collector.otel.svc", 4318),
        ("https://otlp.example.com", "otlp.example.com", 443),
        ("http://10.1.2.3:4318/v1/traces", "10.1.2.3", 4318),
    ],
)
def test_traces_are_let_out(endpoint: str, host: str, port: int, tmp_path: Path) -> None:
    assert not allowed(chart.given(WALL, tmp_path), host, port)
    assert allowed(chart.given({**WALL, "otel": {"endpoint": endpoint}}, tmp_path), host, port)


def test_no_role_where_none_is_wanted(tmp_path: Path) -> None:
    text = chart.policy_files(chart.manifests("discovery"))["policy.yaml"]
    found = chart.given({"policy": {"text": text}, "rbac": {"create": False}}, tmp_path)
    assert chart.of_kind(found, "Role") + chart.of_kind(found, "RoleBinding") == []


def test_the_providers_are_those_of_the_program() -> None:
    assert providers.FILE.read_text() == providers.text(), "python -m tests.helm.renew"
