"""The verbs of `spillway`, as its help lists them."""

from __future__ import annotations

import pytest
from proxy import __version__
from proxy.cli.command import app
from typer.testing import CliRunner

VERBS = ("serve", "status", "demo", "policy", "simulate", "version")


def test_the_version_is_the_packages_own() -> None:
    assert CliRunner().invoke(app, ["version"]).output == f"{__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_listed_and_explains_itself(verb: str) -> None:
    assert verb in CliRunner().invoke(app, ["--help"]).output
    explained = CliRunner().invoke(app, [verb, "--help"])
    assert explained.exit_code == 0
    assert "Usage:" in explained.output


def test_an_unknown_verb_is_refused() -> None:
    assert CliRunner().invoke(app, ["fly"]).exit_code == 2
