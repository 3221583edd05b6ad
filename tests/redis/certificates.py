"""An authority of our own and what it signs, made by the openssl command."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate and its key."""

    cert: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Signs certificates, all of them in one folder."""

    folder: Path
    ca: Certificate

    def sign(self, name: str, alternative: str) -> Certificate:
        """A certificate for one name, such as `IP:127.0.0.1`."""
        signed = _files(self.folder, name)
        _openssl(
            *("req", "-x509", "-CA", str(self.ca.cert), "-CAkey", str(self.ca.key), "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName={alternative}", "-addext", "basicConstraints=critical,CA:FALSE"),
            *_new(signed),
        )
        return signed


def make_authority(folder: Path) -> Authority:
    """A new one, trusted by nobody."""
    ca = _files(folder, "ca")
    _openssl("req", "-x509", "-subj", "/CN=an authority of tests", *_new(ca))
    return Authority(folder=folder, ca=ca)


def _files(folder: Path, name: str) -> Certificate:
    return Certificate(cert=folder / f"{name}.pem", key=folder / f"{name}.key")


def _new(made: Certificate) -> tuple[str, ...]:
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    return (*curve, "-out", str(made.cert), "-keyout", str(made.key))


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)
