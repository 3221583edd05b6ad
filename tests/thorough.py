"""How far the tests that search go: some of the way in the fast tests, all of it in the suites that take longer."""

from __future__ import annotations

import os

THOROUGH = os.environ.get("SPILLWAY_TEST_THOROUGH") == "1"
"""Set by `make test-redis` for the meters, and by `make test-fuzz` for all other modules that import this one."""


def examples(all_of_them: int) -> int:
    """How many examples to try: `all_of_them`, or a quarter."""
    return all_of_them if THOROUGH else max(1, all_of_them // 4)
