"""Process settings: ports, paths, limits. From the command line, else from `SPILLWAY_*`; nothing about routing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one process runs. `host` None leaves it to the policy: loopback unless callers are authenticated.

    `worker` is the number of this process, where several share the ports.
    """

    policy: Path
    host: str | None = None
    port: int = 8080
    admin_host: str | None = None
    admin_port: int = 9090
    redis_url: str | None = None
    workers: int = 1
    data_dir: Path = Path("data")
    decision_log: Path | None = None
    decision_log_max_bytes: int = 100 * 1024 * 1024
    decision_log_max_age_s: float | None = None
    decision_log_keep: int = 10
    decision_log_gzip: bool = False
    trace_shared: bool = False
    max_body_bytes: int = 10 * 1024 * 1024
    max_in_flight: int = 4096
    drain_s: float = 30.0
    drain_delay_s: float = 0.0
    admin_token: str | None = field(default=None, repr=False)
    worker: int | None = None


def admin_token(env: Mapping[str, str]) -> str | None:
    """What `/admin/*` asks for: `SPILLWAY_ADMIN_TOKEN`, without the line break that a secret in a file tends to end in.

    None if there is none. Raises ValueError where it could not be sent in a header.
    """
    token = env.get("SPILLWAY_ADMIN_TOKEN", "").strip()
    if not all("!" <= character <= "~" for character in token):
        raise ValueError("SPILLWAY_ADMIN_TOKEN holds what no header can carry (hint: letters, digits and -._~+/=)")
    return token or None


def data_dir(env: Mapping[str, str]) -> Path:
    """Where the embedded store keeps its file: `SPILLWAY_DATA_DIR`, else the user's data folder (XDG)."""
    given = env.get("SPILLWAY_DATA_DIR")
    if given:
        return Path(given)
    base = env.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "spillway"


_SIZE = re.compile(r"([0-9]{1,15}) ?(B|[kKMG]B|[KMG]iB)?")
_BYTES = {"": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def size_bytes(text: str) -> int:
    """`100MiB`, `1GB` or `4096` -> bytes, at least 1. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    size = int(match[1]) * _BYTES[match[2] or ""] if match else 0
    if not size:
        raise ValueError(f"expected a size, got `{text}` (hint: write `100MiB`, `1GB` or a number of bytes)")
    return size
