"""Where `spillway policy check --observed` finds what targets were seen to do: a running proxy, or a file."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

from proxy.policy.lint.observed import NotObservations, parse_observations
from proxy.policy.lint.speed import Observed

FETCH_TIMEOUT_S = 5.0
MOST_BYTES = 64 << 20


class ObservationsUnreadable(Exception):
    """There is nothing to compare with; the text says why, and what to do."""


def read_observations(source: str) -> Observed:
    """The latencies in the file or behind the URL `source`. Raises ObservationsUnreadable."""
    try:
        return parse_observations(_text(source))
    except NotObservations as error:
        raise ObservationsUnreadable(f"`{source}`: {error}") from None
    except urllib.error.HTTPError as error:
        error.close()
        hint = "name the admin port's `/metrics`"
        raise ObservationsUnreadable(f"`{source}` answers {error.code} (hint: {hint})") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ObservationsUnreadable(f"`{source}` cannot be read: {str(reason).lower()}") from None


def _text(source: str) -> str:
    if not source.startswith(("http://", "https://")):
        return Path(source).read_text("utf-8")
    with urllib.request.urlopen(source, timeout=FETCH_TIMEOUT_S) as response:  # noqa: S310  (scheme checked above)
        read: bytes = response.read(MOST_BYTES)
        return read.decode("utf-8")
