"""What the console shows of a live view."""

from __future__ import annotations

import re

from playwright.sync_api import expect
from tests.browser.conftest import NOTHING, Open, resize, shown
from tests.browser.puppet import Puppet
from tests.browser.views import ill, view


def test_the_first_screen_answers_the_first_questions(admin: Puppet, visit: Open) -> None:
    page = shown(visit(admin.url))
    for name, said in {
        "health": "Healthy",
        "health-text": "3 of 3 targets serve, 1 of 1 objective met",
        "traffic": "86%",
        "traffic-text": "7.0 requests/s, 25% spilled in the last 1 min",
        "traffic-why": "dedicated at capacity: 16 of 16 in flight on gpu-0",
        "cost": "$26.00",
        "cost-text": "GPUs $24.00, $4.00 of it idle; providers $2.00",
        "cost-today": "Today: GPUs $24.00, providers $2.00",
        "saving": "$3.50",
        "saving-text": "$0.50 a million tokens on your GPUs, $1.00 at shared prices.",
    }.items():
        answer = page.locator(f"#{name}")
        expect(answer).to_have_text(said)
        assert answer.bounding_box()["y"] < 900
    expect(page).to_have_title("Healthy · Spillway")
    expect(page.locator("#own .row")).to_have_count(2)
    expect(page.locator("#rent .row")).to_have_count(1)
    expect(page.locator("#process")).to_contain_text("9896461ab188")
    expect(page.locator("#budgets")).to_contain_text("$40.00 of $100.00 a day · $1.00 held · resets in 1 h 0 min")


def test_what_is_wrong_is_said_worst_first_and_once_aloud(admin: Puppet, visit: Open) -> None:
    page = shown(visit(admin.url))
    admin.say(ill())
    expect(page.locator("#health")).to_have_text("Degraded")
    expect(page.locator("#health")).to_have_attribute("data-is", "bad")
    expect(page.locator("#health-more")).to_have_text("and 5 more")
    found = page.locator("#troubles > li")
    expect(found).to_have_count(6)
    for said in (
        "the breaker is open; next try in 12 s",
        "the store is away since 12:00",
        "policy.yaml:3:5: unknown key `regoin`",
        "and 2 more",
        "TTFT p99 is 3.10 s, wanted 2.00 s",
        "9 refused, most by budget:growth; 3 failed, in the last 1 min",
        "$100.00 of $100.00 a day are spent",
    ):
        expect(page.locator("#troubles")).to_contain_text(said)
    expect(page.locator("#own .row").first.locator(".sign")).to_have_text("open")
    announced = page.locator("#announcer")
    expect(announced).to_have_text(re.compile("^(Degraded|A new policy was refused)"))
    page.evaluate(
        "window.heard = []; new MutationObserver((all) => heard.push(all.length))"
        ".observe(document.getElementById('announcer'), {childList: true, characterData: true, subtree: true})"
    )
    again = ill()
    again |= {"as_of": again["as_of"] + 1}
    again["targets"][1]["in_flight"] = 77
    admin.say(again)
    expect(page.locator("#own .row").nth(1)).to_contain_text("77")
    assert page.evaluate("heard") == [], "figures are not read out"


def test_money_that_is_not_known_is_no_nought(admin: Puppet, visit: Open) -> None:
    page = shown(visit(admin.url))
    said = view(second=1)
    said["money"] = None
    for one in said["targets"]:
        one["money"] = None
    admin.say(said)
    expect(page.locator("#cost")).to_have_text(NOTHING)
    expect(page.locator("#saving")).to_have_text(NOTHING)
    expect(page.locator("#cost-text")).to_contain_text("The store is away")


def test_a_changed_view_leaves_no_trace_of_the_one_before(admin: Puppet, visit: Open) -> None:
    page = shown(visit(admin.url))
    said = view(second=1)
    said["targets"] = [said["targets"][2]]
    said["budgets"], said["routes"], said["decisions"], said["notable"] = [], [], [], []
    admin.say(said)
    expect(page.locator("#own .row")).to_have_count(0)
    expect(page.locator("#own-empty")).to_be_visible()
    expect(page.locator("#budgets-empty")).to_be_visible()
    expect(page.locator(".decision:visible")).to_have_count(0)
    admin.say(view(second=2))
    expect(page.locator("#own .row")).to_have_count(2)
    expect(page.locator("#own-empty")).to_be_hidden()


def test_a_target_opens_to_its_replicas_and_a_chart_to_its_figures(admin: Puppet, visit: Open) -> None:
    page = shown(visit(admin.url))
    page.get_by_role("button", name="gpu-1").click()
    replicas = page.locator("#own .inner:visible tbody tr")
    expect(replicas).to_have_count(2)
    expect(replicas.first).to_contain_text("10.0.0.0:8000")
    expect(replicas.first).to_contain_text("60% ttft")
    label = page.get_by_role("img", name=re.compile("^Latency against objectives, last 5 min"))
    expect(label).to_have_attribute("aria-label", re.compile("TTFT p99 600 ms, p50 200 ms, default wants 2.00 s$"))
    page.locator("#chart-latency ~ select").select_option("default ttft_p99")
    expect(page.locator("#chart-latency").locator("xpath=../following-sibling::ul")).to_contain_text("objective2.00 s")
    page.get_by_text("As a table").first.click()
    expect(page.locator("figure table").first.locator("tbody tr")).to_have_count(12)
    expect(page.locator("figure table").first).to_contain_text("25%")


def test_a_view_of_another_release_is_not_taken_for_one_of_this(admin: Puppet, visit: Open) -> None:
    page = shown(visit(admin.url))
    admin.say(view(second=1) | {"format": 2, "targets": None})
    expect(page.locator("#heard")).to_contain_text("another release answers: reload this page")
    expect(page.locator("#own .row")).to_have_count(2)


def test_a_chart_tells_the_figures_under_the_pointer(admin: Puppet, visit: Open) -> None:
    said = view(second=1)
    said["history"]["spill_share"] = [at / 150 for at in range(150)]
    admin.say(said)
    page = shown(visit(admin.url))
    told = page.locator("#charts .keys").first
    expect(told).to_contain_text("99%")
    plot = page.locator("#charts .u-over").first.bounding_box()
    page.mouse.move(plot["x"] + plot["width"] / 2, plot["y"] + 30)
    expect(told).to_contain_text("50%")
    admin.say(said | {"as_of": said["as_of"] + 1})
    expect(told).to_contain_text("50%")
    page.mouse.move(1, 1)
    expect(told).to_contain_text("99%")


def test_what_is_wrong_with_pods_stands_beside_their_target(admin: Puppet, visit: Open) -> None:
    page = shown(visit(admin.url))
    first, second = (page.locator("#own .row").nth(at).locator(".pods") for at in (0, 1))
    expect(first).to_be_empty()
    said = view(second=1)
    trouble = "`169.254.169.254` cannot be a replica <b>(hint: who writes there?)</b>"
    said["targets"][0]["found"] = {"up": True, "age_s": 1.0, "unready": 2, "terminating": 1, "trouble": trouble}
    said["targets"][1]["found"] = {"up": False, "age_s": None, "unready": 0, "terminating": 0, "trouble": ""}
    admin.say(said)
    expect(first).to_have_text(f"2 not ready, 1 leaving; {trouble}")
    expect(second).to_have_text("whoever lists its pods has not answered yet")
    expect(first).to_have_attribute("data-is", "bad")
    expect(page.locator("#health")).to_have_text("Healthy")
    resize(page, 390, 844)
    said["targets"][1]["found"] |= {"age_s": 90.0, "trouble": "no answer from the API server"}
    admin.say(said)
    expect(page.locator("#health")).to_have_text("Degraded")
    expect(page.locator("#troubles")).to_contain_text(
        "pods that come or go are not seen: no answer from the API server"
    )
    said["targets"][0]["found"] |= {"terminating": 0, "trouble": ""}
    admin.say(said)
    expect(first).to_have_text("2 not ready")
    assert first.get_attribute("data-is") is None, "a model that loads is no trouble"
