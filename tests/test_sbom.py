"""The bill of materials has what the lock file has, in the form of CycloneDX 1.6."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from typing import Any

from proxy import __version__

from tests.readme import ROOT

LOCK = (ROOT / "requirements.lock").read_text()
SERIAL = r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"  # the schema's own
PURL = r"pkg:pypi/[a-z0-9]+(-[a-z0-9]+)*@[A-Za-z0-9.!+_-]+"


@cache
def bill() -> dict[str, Any]:
    printed = subprocess.run([sys.executable, ROOT / ".ci" / "sbom.py"], capture_output=True, check=True).stdout
    document: dict[str, Any] = json.loads(printed)
    return document


def test_it_has_every_pin_and_hash() -> None:
    pins = dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", LOCK, re.MULTILINE))
    assert {one["name"]: one["version"] for one in bill()["components"]} == pins
    hashes = [found["content"] for one in bill()["components"] for found in one["externalReferences"][0]["hashes"]]
    assert sorted(hashes) == sorted(re.findall(r"sha256:([0-9a-f]{64})", LOCK))
    markers = [one["properties"][0]["value"] for one in bill()["components"] if one["properties"]]
    assert sorted(markers) == sorted(re.findall(r" ; (.*?) \\$", LOCK, re.MULTILINE))


def test_its_form() -> None:
    assert (bill()["bomFormat"], bill()["specVersion"], bill()["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(SERIAL, bill()["serialNumber"])
    itself = bill()["metadata"]["component"]
    assert (itself["type"], itself["version"]) == ("application", __version__)
    refs = [one["bom-ref"] for one in (itself, *bill()["components"])]
    assert len(refs) == len(set(refs))
    assert all(re.fullmatch(PURL, one["purl"]) for one in bill()["components"])
    (graph,) = bill()["dependencies"]
    assert graph["ref"] == itself["bom-ref"]
    assert len(graph["dependsOn"]) > 10
    assert set(graph["dependsOn"]) < set(refs)


def test_it_is_the_same_each_time() -> None:
    again = subprocess.run([sys.executable, ROOT / ".ci" / "sbom.py"], capture_output=True, check=True).stdout
    assert json.loads(again) == bill()
