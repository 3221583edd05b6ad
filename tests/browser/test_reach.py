"""Everything can be reached without a mouse, read without colours, and held still."""

from __future__ import annotations

import msgspec
from playwright.sync_api import expect
from tests.browser.conftest import Open, shown
from tests.browser.puppet import Puppet
from tests.browser.views import decision, view


def test_every_control_is_reached_by_keyboard_and_seen_to_be(admin: Puppet, visit: Open) -> None:
    page = shown(visit(admin.url))
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    assert page.locator(".skip").bounding_box()["y"] >= 0
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        name = page.evaluate(
            "document.activeElement.id || document.activeElement.className || document.activeElement.tagName"
        )
        if name == "BODY":
            break
        reached.add(name)
        outline = page.evaluate(
            "getComputedStyle(document.activeElement.closest('label') ?? document.activeElement).outlineStyle"
        )
        assert outline != "none", name
    assert {"twist", "hold", "chart-price-of", "chart-latency-of"} <= reached
    assert any(name == "INPUT" for name in reached), "the filter"


def test_decisions_are_walked_with_the_arrow_keys(admin: Puppet, visit: Open) -> None:
    page = shown(visit(admin.url))
    rows = page.locator(".decision > button")
    rows.first.focus()
    page.keyboard.press("ArrowDown")
    expect(rows.nth(1)).to_be_focused()
    page.keyboard.press("End")
    expect(rows.nth(5)).to_be_focused()
    page.keyboard.press("Enter")
    expect(rows.nth(5)).to_have_attribute("aria-expanded", "true")
    left_out = page.locator(".detail table")
    expect(left_out).to_contain_text("gpu-0")
    expect(left_out).to_contain_text("16 of 16 in flight")
    expect(left_out).to_contain_text("soft")
    admin.say(view(second=30))
    expect(page.locator("#held")).to_have_text("held while one is open, 6 or more newer")
    page.keyboard.press("Escape")
    expect(page.locator(".detail")).to_have_count(0)
    expect(rows.nth(5)).to_be_focused()
    page.keyboard.press("Home")
    expect(rows.first).to_be_focused()
    page.locator("#hold").focus()
    admin.say(view(second=31))
    expect(page.locator("#held")).to_be_empty()


def test_decisions_stand_still_when_told_to_and_are_sorted_out(admin: Puppet, visit: Open) -> None:
    said = view()
    refused = decision(99, lane=None, target="", cause="", reason="", outcome="refused", failure="region", status=403)
    said["decisions"].insert(0, msgspec.to_builtins(refused))
    admin.say(said)
    page = shown(visit(admin.url))
    first = page.locator(".decision").first
    expect(first).to_contain_text("refused: region (403)")
    page.get_by_role("radio", name="Spilled").check()
    expect(page.locator(".decision:visible")).to_have_count(2)
    expect(first).to_contain_text("spilled: dedicated at capacity")
    page.get_by_role("radio", name="Failed or refused").check()
    expect(page.locator(".decision:visible")).to_have_count(1)
    page.get_by_role("radio", name="All").check()
    page.get_by_role("button", name="Hold").click()
    admin.say(view(second=40))
    expect(page.locator("#held")).to_have_text("held, 6 or more newer")
    expect(first).to_contain_text("refused: region (403)")
    page.get_by_role("button", name="Hold").click()
    expect(first).not_to_contain_text("refused")


def test_a_theme_that_was_chosen_is_kept(admin: Puppet, visit: Open) -> None:
    page = shown(visit(admin.url, color_scheme="light"))
    root = page.locator("html")
    expect(root).to_have_attribute("data-theme", "light")
    page.emulate_media(color_scheme="dark")
    expect(root).to_have_attribute("data-theme", "dark")
    page.get_by_label("Theme").select_option("light")
    expect(root).to_have_attribute("data-theme", "light")
    page.reload()
    expect(root).to_have_attribute("data-theme", "light")
    assert page.evaluate("JSON.stringify(localStorage)") == '{"spillway-theme":"light"}'
