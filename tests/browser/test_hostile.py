"""Names from policies, upstreams and callers are text, whatever they hold."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import expect
from tests.browser.conftest import Open, resize, shown
from tests.browser.puppet import Puppet
from tests.browser.views import ill

MARKUP = '<img src=x onerror="window.hurt=1"><script>window.hurt=1</script>{{7*7}}&lt;b&gt;'
RIGHT_TO_LEFT = "\u202egnorw\u2066 \u0627\u0644\u0639\u0631\u0628\u064a\u0629"
LONG = "x" * 10_000
NASTY = [MARKUP, RIGHT_TO_LEFT, LONG, "__proto__", "javascript:alert(1)", "\u0000\u0007\n\t", "constructor"]


def poisoned(value: Any, text: str) -> Any:
    """The same, with every name and text in it replaced, but for the words that the page decides by."""
    words = {"dedicated", "shared", "closed", "open", "ok", "ready", "spillover", "preferred", "hard", "day", "cost"}
    if isinstance(value, dict):
        counted = all(isinstance(one, int) for one in value.values()) and len(value) == 1
        return {text if counted else name: poisoned(one, text) for name, one in value.items()}
    if isinstance(value, list):
        return [poisoned(one, f"{text}{at}" if at else text) for at, one in enumerate(value)]
    return text if isinstance(value, str) and value not in words else value


def test_a_hostile_name_is_text_and_nothing_else(admin: Puppet, visit: Open) -> None:
    page = shown(visit(admin.url))
    for second, text in enumerate(NASTY, 5):
        said = poisoned(ill(), text)
        said["as_of"] += second
        admin.say(said)
        expect(page.locator("#own .target-name").first).to_contain_text(text[:20].strip() or text)
        page.locator("#own .twist").first.click()
        page.locator(".decision > button").first.click()
        expect(page.locator(".detail")).to_contain_text(text[:20].strip() or text)
        assert page.evaluate("window.hurt") is None
        assert page.locator("main img, main script, main iframe, main object").count() == 0
        for width in (360, 1440):
            resize(page, width, 740)
        page.locator(".decision > button[aria-expanded=true]").click()
        page.locator("#hold").focus()
        page.mouse.move(1, 1)
    expect(page.locator("#heard")).to_have_text("live")
