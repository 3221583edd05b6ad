"""Prints what the image is made of besides its base: a CycloneDX 1.6 bill of materials, as JSON.

It is read from requirements.lock, whose versions and hashes are what the Dockerfile installs, so it is the same on
every machine. Packages that only some platforms or Pythons need are in it too, with the marker that says which:

    python .ci/sbom.py > spillway.cdx.json

https://cyclonedx.org/docs/1.6/json/ and, for the names, https://github.com/package-url/purl-spec
"""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
_PIN = re.compile(r"([A-Za-z0-9._-]+)==(\S+?)(?: ; ([^\\]+?))? \\")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def document() -> dict[str, Any]:
    """The whole bill; its serial number is that of the lock file's text."""
    lock = LOCK.read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    itself = _itself(project)
    components = list(_components(lock))
    refs = {one["name"]: one["bom-ref"] for one in components}
    wanted = (_NAME.match(one) for one in project["dependencies"])
    direct = {refs[_canonical(one[0])] for one in wanted if one is not None}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, itself['purl'] + lock)}",
        "version": 1,
        "metadata": {"component": itself, "lifecycles": [{"phase": "build"}]},
        "components": components,
        "dependencies": [{"ref": itself["bom-ref"], "dependsOn": sorted(direct)}],
        # A lock says what is installed, and not what asked for it.
        "compositions": [{"aggregate": "incomplete", "dependencies": sorted(refs.values())}],
    }


def _itself(project: dict[str, Any]) -> dict[str, Any]:
    module = ast.parse((ROOT / "proxy" / "__init__.py").read_text(encoding="utf-8"))
    version = next(ast.literal_eval(one.value) for one in module.body if isinstance(one, ast.Assign))
    purl = f"pkg:pypi/{project['name']}@{version}"
    return {
        "type": "application",
        "bom-ref": purl,
        "name": project["name"],
        "version": version,
        "description": project["description"],
        "licenses": [{"license": {"id": project["license"]}}],
        "purl": purl,
    }


def _components(lock: str) -> Iterator[dict[str, Any]]:
    """One for each pin. Its hashes are those of all its files, of which an installation takes one."""
    for entry in re.split(r"\n(?=[A-Za-z0-9])", lock):
        pin = _PIN.match(entry)
        if pin is None:
            continue
        name, version, marker = pin.groups()
        purl = f"pkg:pypi/{_canonical(name)}@{version}"
        yield {
            "type": "library",
            "bom-ref": purl,
            "name": _canonical(name),
            "version": version,
            "purl": purl,
            "externalReferences": [
                {
                    "type": "distribution",
                    "url": f"https://pypi.org/project/{_canonical(name)}/{version}/#files",
                    "hashes": [{"alg": "SHA-256", "content": found} for found in _HASH.findall(entry)],
                }
            ],
            "properties": [{"name": "spillway:marker", "value": marker}] if marker else [],
        }


def _canonical(name: str) -> str:
    """As https://packaging.python.org/en/latest/specifications/name-normalization/ has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    json.dump(document(), sys.stdout, indent=2)
    print()
