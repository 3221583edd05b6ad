"""Process settings: ports, paths, limits. From the command line, else from `SPILLWAY_*`; nothing about routing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one process runs. `host` None leaves it to the policy: loopback unless callers are authenticated."""

    policy: Path
    host: str | None = None
    port: int = 8080
    admin_host: str | None = None
    admin_port: int = 9090
    redis_url: str | None = None
    workers: int = 1
    data_dir: Path = Path("data")
    max_body_bytes: int = 10 * 1024 * 1024
    max_in_flight: int = 4096
    drain_s: float = 30.0


def data_dir(env: Mapping[str, str]) -> Path:
    """Where the embedded store keeps its file: `SPILLWAY_DATA_DIR`, else the user's data folder (XDG)."""
    given = env.get("SPILLWAY_DATA_DIR")
    if given:
        return Path(given)
    base = env.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "spillway"
