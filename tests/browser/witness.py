"""Sees what a page complains of: its console, its exceptions, its policy, and every request that leaves its origin."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request

_NOTE_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective} of ${event.blockedURI} in ${event.sourceFile}`));
"""


class Witness:
    """`expected` are patterns of complaints that the test itself brings about, such as a proxy that is stopped."""

    def __init__(self) -> None:
        self.expected: list[str] = []
        self.complaints: list[str] = []
        self.requested: list[str] = []

    def watch(self, page: Page, url: str) -> None:
        """From before its first byte."""
        origin = _origin(url)
        page.add_init_script(_NOTE_VIOLATIONS)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))
        page.on("request", lambda request: self._request(request, origin))

    def question(self, context: BrowserContext) -> None:
        """What the pages have to say of their policy."""
        for page in context.pages:
            self.complaints += [f"policy: {one}" for one in page.evaluate("window.violations")]

    def testify(self) -> None:
        """Fails if anything happened that nobody expected."""
        unexpected = [one for one in self.complaints if not any(re.search(known, one) for known in self.expected)]
        assert unexpected == []

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"console: {message.text}")

    def _request(self, request: Request, origin: str) -> None:
        self.requested.append(request.url)
        if _origin(request.url) != origin and not request.url.startswith("data:"):
            self.complaints.append(f"asks another origin: {request.url}")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
