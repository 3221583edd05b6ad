"""The page stands still, stays small, costs little, and says when it has lost the proxy."""

from __future__ import annotations

import re

from playwright.sync_api import expect
from tests.browser.conftest import Open, resize, shown
from tests.browser.puppet import Puppet
from tests.browser.views import view
from tests.browser.witness import Witness

WATCH_SHIFTS = """() => {
  window.moved = [];
  window.score = 0;
  const name = ({ node, previousRect: was, currentRect: is }) =>
    `${node?.textContent.slice(0, 60)}: ${was.top} to ${is.top}`;
  new PerformanceObserver((list) => list.getEntries().forEach((one) => {
    score += one.value;
    const both = one.sources.filter(({ previousRect: was, currentRect: is }) => was.width && is.width);
    moved.push(...both.filter(({ previousRect: was, currentRect: is }) => was.top !== is.top).map(name));
  })).observe({ type: "layout-shift" });
}"""


def test_nothing_moves_while_figures_change(admin: Puppet, visit: Open) -> None:
    page = shown(visit(admin.url))
    page.wait_for_timeout(300)  # what the browser itself still lays out after the first view
    page.evaluate(WATCH_SHIFTS)
    for second in range(1, 12):
        said = view(second=second)
        for one in said["targets"]:
            one["in_flight"] = 10**second % 7919
            one["latency_here"]["ttft"] |= {"p50_s": 0.0004 * 5**second, "p99_s": 0.003 * 4**second}
            one["money"]["nano_usd_per_mtok"] = 7**second * 1000
            one["saturation"] = min(1.2, second / 9)
        said["money"]["saving_nano_usd_per_h"] = (-9.0) ** second * 1e6
        said["health"]["degraded"] = {"meters": "away"} if second % 2 else {}
        said["decisions"] = [one | {"reason": "why " * second} for one in said["decisions"]]
        admin.say(said)
        expect(page.locator("#own .row").first).to_contain_text(f"{said['targets'][0]['in_flight']:,}")
    assert page.evaluate("moved") == []
    assert page.evaluate("score") < 0.01, "figures grow to the left, within their cells"


def test_old_figures_are_seen_to_be_old_until_the_proxy_is_back(admin: Puppet, visit: Open, witness: Witness) -> None:
    witness.expected.append("ERR_FAILED")
    page = shown(visit(admin.url))
    page.route("**/admin/live", lambda route: route.abort())
    admin.hang_up()
    expect(page.locator("#heard")).to_have_text(
        re.compile(r"last heard \d+ s ago: the proxy cannot be reached, trying again in \d+ s")
    )
    expect(page.locator("#heard")).to_have_attribute("data-state", "away")
    expect(page.locator("#announcer")).to_have_text(re.compile("Out of touch"))
    expect(page.locator("body")).to_have_attribute("data-stale", "")
    expect(page.locator(".glance")).to_have_css("filter", "grayscale(1)")
    page.unroute("**/admin/live")
    page.evaluate("dispatchEvent(new Event('online'))")
    expect(page.locator("#heard")).to_have_text("live")
    expect(page.locator("#announcer")).to_have_text("In touch with the proxy again")
    expect(page.locator("body")).not_to_have_attribute("data-stale", "")


def test_nothing_moves_for_those_who_want_no_motion(admin: Puppet, visit: Open) -> None:
    page = shown(visit(admin.url, reduced_motion="reduce"))
    moving = "[...document.querySelectorAll('*')].filter((one) => getComputedStyle(one).transitionDuration > '0s')"
    assert page.evaluate(f"{moving}.map((one) => one.className)") == []


def test_the_page_needs_no_more_memory_after_hours(admin: Puppet, visit: Open) -> None:
    """An hour and more of seconds, as fast as the page takes them; its rings are full after eleven minutes."""
    page = shown(visit(admin.url))
    session = page.context.new_cdp_session(page)

    def seconds(first: int, last: int) -> tuple[int, int]:
        page.evaluate(
            """async ([first, last, said]) => {
              const { Trends } = await import("/console/trends.js");
              const { Decisions } = await import("/console/decisions.js");
              window.parts ??= [new Trends(document.createElement("div")), new Decisions()];
              for (let at = first; at < last; at++) {
                const view = structuredClone(said);
                view.as_of += at;
                view.decisions.forEach((one, index) => { one.request_id = `r${at}-${index}`; one.at += at; });
                parts.forEach((part) => part.update(view));
              }
            }""",
            [first, last, view()],
        )
        session.send("HeapProfiler.collectGarbage")
        nodes = session.send("Memory.getDOMCounters")["nodes"]
        return session.send("Runtime.getHeapUsage")["usedSize"], nodes

    full, nodes = seconds(0, 800)
    later, nodes_later = seconds(800, 4000)
    assert nodes_later <= nodes + 50
    assert later < full + 300_000


def test_a_large_fleet_under_load_costs_little(admin: Puppet, visit: Open) -> None:
    """50 targets of 8 replicas, 50 decisions a second: what a second's update costs the browser, all told."""
    page = shown(visit(admin.url))
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})  # what others do meanwhile does not count

    def busy_s() -> float:
        return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}["TaskDuration"]

    updates = 10
    before = busy_s()
    for second in range(updates):
        said = view(own=40, shared=10, replicas=8, decisions=50, second=50 * (second + 1))
        for one in said["targets"]:
            one["in_flight"] = 1000 + second
        admin.say(said)
        expect(page.locator("#own .row").first).to_contain_text(f"{1000 + second:,}")
    each_ms = (busy_s() - before) / updates * 1000
    assert page.locator("#own .pip").count() == 320
    assert each_ms < 150, f"{each_ms:.0f} ms of processor time each second"


ENDS_WITH_ITS_FOOTER = """() => {
  const last = document.querySelector("footer").getBoundingClientRect().bottom + scrollY;
  return document.documentElement.scrollHeight <= Math.max(innerHeight, last + 1);
}"""
WIDTHS = (360, 390, 600, 760, 761, 1024, 1180, 1181, 1280, 1440, 1920)


def test_it_fits_from_a_phone_to_a_wide_screen(admin: Puppet, visit: Open) -> None:
    admin.say(view(own=8, shared=4, replicas=8, decisions=50))
    page = shown(visit(admin.url))
    page.locator("#own .twist").first.click()
    for width in WIDTHS:
        resize(page, width, 900)
        # Nothing that is hidden in a list reaches out of it: the page ends where its last line does.
        page.wait_for_function(ENDS_WITH_ITS_FOOTER)
        cut = page.evaluate(
            """() => [...document.querySelectorAll("td.num, td.state, .big, .target-name, #heard, .budgets p")]
              .filter((one) => one.scrollWidth > one.clientWidth + 1 && one.clientWidth)
              .map((one) => `${one.className}: ${one.textContent}`)"""
        )
        assert cut == [], width
