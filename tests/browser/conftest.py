"""Chromium as Debian has it; each test has a profile of its own, and a witness of what went wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from tests.browser.background import Background
from tests.browser.puppet import Puppet, puppet
from tests.browser.views import view
from tests.browser.witness import Witness

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--js-flags=--expose-gc"]

WITHIN_MS = 20_000
"""How long a page may take to say what is expected of it: a machine that runs all suites at once is slow."""
Open = Callable[..., Page]
NOTHING = "\u2013"
"""What stands where nothing is known."""


def resize(page: Page, width: int, height: int) -> None:
    """Give the page another size; it has to fit in it once it has laid itself out anew: charts follow a frame later."""
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_function("(width) => document.documentElement.scrollWidth <= width", arg=width, timeout=5000)


def shown(page: Page) -> Page:
    """The page once it has drawn its first view."""
    expect(page.locator("#heard")).to_have_text("live")
    expect(page.locator("body")).not_to_have_attribute("data-empty", "")
    return page


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Not for longer than a module: while Playwright is up, no other event loop can run in this thread."""
    if CHROMIUM is None and not os.environ.get("CI"):
        pytest.skip("no Chromium on this machine (Debian: apt install chromium); CI must have one")
    assert CHROMIUM is not None, "CI tests the console in a real browser: apt install chromium"
    expect.set_options(timeout=WITHIN_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def background() -> Iterator[Background]:
    with Background() as running:
        yield running


@pytest.fixture
def admin(background: Background) -> Iterator[Puppet]:
    """An admin port whose proxy is well, until the test says otherwise."""
    with background.held(puppet(view())) as running:
        yield running


@pytest.fixture
def witness() -> Witness:
    return Witness()


@pytest.fixture
def visit(chromium: Browser, witness: Witness) -> Iterator[Open]:
    """Opens a URL in a fresh profile: `visit(url, width=390, color_scheme="dark")`. Whatever any page complains of, or
    asks of another origin, fails the test at its end.
    """
    contexts: list[BrowserContext] = []

    def opened(url: str, width: int = 1440, height: int = 900, **more: object) -> Page:
        context = chromium.new_context(viewport={"width": width, "height": height}, **more)
        contexts.append(context)
        page = context.new_page()
        witness.watch(page, url)
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        witness.question(context)
        context.close()
    witness.testify()
