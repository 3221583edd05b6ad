"""What every test starts from: an environment with no key in it, and property tests that do not depend on the clock."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# A deadline in wall time fails on a busy machine and proves nothing on an idle one; in CI, examples repeat.
settings.register_profile("developer", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "developer")

_KEPT_OUT = ("SPILLWAY_", "LITELLM_", "OPENAI_", "ANTHROPIC_", "AWS_", "AZURE_", "GOOGLE_", "GEMINI_")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own keys and settings change no result, and no test can spend money with them."""
    for name in [name for name in os.environ if name.startswith(_KEPT_OUT) or name.endswith("_API_KEY")]:
        monkeypatch.delenv(name)
