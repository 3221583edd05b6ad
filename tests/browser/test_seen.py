"""What can be read, by eyes and by screen readers: contrast in both themes, names and roles, headings, references.

The ratios are those of WCAG 2.2, 1.4.3 (text) and 1.4.11 (controls and what carries meaning).
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.browser.conftest import Open, shown
from tests.browser.puppet import Puppet
from tests.browser.views import ill

TREE_WITHIN_S = 5.0
CONTRASTS = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const linear = (value) => ((value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ratio = (one, other) => {
    const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (light + 0.05) / (dark + 0.05);
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const found = rgba(getComputedStyle(at).backgroundColor);
      if (found[3] === 255) return found;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !node.checkVisibility()) continue;
    if (node.closest(".sr, script, option, noscript")) continue;
    const style = getComputedStyle(node);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    const is = ratio(rgba(style.color), behind(node));
    if (is < (large ? 3 : 4.5)) found.push(`${is.toFixed(2)}: ${walk.currentNode.data.trim().slice(0, 40)}`);
  }
  const root = getComputedStyle(document.documentElement);
  const token = (name) => rgba(root.getPropertyValue(name));
  for (const mark of ["--own", "--rent", "--good", "--warn", "--bad", "--focus", "--quiet"]) {
    for (const ground of ["--card", "--page", "--sunk"]) {
      const is = ratio(token(mark), token(ground));
      if (is < 3) found.push(`${is.toFixed(2)}: ${mark} on ${ground}`);
    }
  }
  return found;
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_everything_can_be_read(admin: Puppet, visit: Open, theme: str, width: int) -> None:
    page = shown(visit(admin.url, width=width, color_scheme=theme))
    assert page.evaluate(CONTRASTS) == []
    admin.say(ill())
    expect(page.locator("#troubles > li")).to_have_count(6)
    page.locator("#own .twist").first.click()
    page.locator(".decision > button").first.click()
    assert page.evaluate(CONTRASTS) == []


NAMED = {
    "button",
    "combobox",
    "radio",
    "radiogroup",
    "link",
    "textbox",
    "image",
    "table",
    "region",
    "dialog",
    "article",
}


def tree(page: Page) -> list[dict[str, Any]]:
    """The accessibility tree, as the browser tells it to a screen reader."""
    found = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    return [node for node in found if not node.get("ignored")]


def roles_of(nodes: list[dict[str, Any]]) -> list[str]:
    return [node["role"]["value"] for node in nodes]


def nameless(nodes: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """What should have a name and has none."""
    unnamed = [node for node in nodes if node["role"]["value"] in NAMED and not node["name"]["value"].strip()]
    return [(node["role"]["value"], node["nodeId"]) for node in unnamed]


def complete(nodes: list[dict[str, Any]]) -> bool:
    roles = roles_of(nodes)
    return "contentinfo" in roles and roles.count("rowheader") >= 3 and roles.count("columnheader") >= 12


@pytest.mark.parametrize("width", [390, 1440])
def test_everything_has_a_role_and_a_name(admin: Puppet, visit: Open, width: int) -> None:
    page = shown(visit(admin.url, width=width))
    until = time.monotonic() + TREE_WITHIN_S
    nodes = tree(page)
    # The browser makes its tree a moment after the page, and tells nobody when.
    while (nameless(nodes) or not complete(nodes)) and time.monotonic() < until:
        page.wait_for_timeout(50)
        nodes = tree(page)
    assert nameless(nodes) == []
    roles = roles_of(nodes)
    assert roles.count("main") == roles.count("banner") == roles.count("contentinfo") == 1
    assert roles.count("rowheader") >= 3, "rows stay rows where they are drawn as cards"
    assert roles.count("columnheader") >= 12
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((one) => +one.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_what_is_referred_to_is_there(admin: Puppet, visit: Open) -> None:
    page = shown(visit(admin.url))
    lost = page.evaluate(
        """() => ["aria-labelledby", "aria-describedby", "aria-controls", "for"].flatMap((name) =>
          [...document.querySelectorAll(`[${name}]`)].flatMap((one) => one.getAttribute(name).split(" "))
        ).filter((id) => !document.getElementById(id))"""
    )
    assert lost == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))
    assert page.evaluate("document.documentElement.lang") == "en"


def test_a_state_is_told_by_more_than_its_colour(admin: Puppet, visit: Open) -> None:
    """Each sign has a shape of its own and a word beside it; the lanes differ in their pattern."""
    page = shown(visit(admin.url))
    admin.say(ill())
    expect(page.locator("#health")).to_have_text("Degraded")
    signs = page.evaluate(
        """() => [...document.querySelectorAll(".sign")].filter((one) => one.checkVisibility()).map((one) =>
          [one.dataset.is, getComputedStyle(one, "::before").content, one.textContent.trim() !== ""])"""
    )
    assert all(worded for _, _, worded in signs)
    shapes = {state: shape for state, shape, _ in signs}
    assert {"good", "warn", "bad"} <= shapes.keys()
    assert len(set(shapes.values())) == len(shapes)
    grounds = [
        page.locator(f".lane[data-lane='{lane}']").first.evaluate("(one) => getComputedStyle(one).backgroundImage")
        for lane in ("dedicated", "shared")
    ]
    assert grounds[0] == "none"
    assert "gradient" in grounds[1]
