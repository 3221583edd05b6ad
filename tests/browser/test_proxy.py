"""The console of a real proxy with a simulated engine and provider: load, spill, token, restart."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import expect
from proxy.simulator.engine import EngineSimulator
from proxy.simulator.provider import ProviderSimulator
from tests.browser.background import Background
from tests.browser.conftest import Open, shown
from tests.browser.witness import Witness
from tests.e2e.processes import Served, ask, engine, provider, serving, write_policy

TOKEN = "browser-token-3f9a"
ROOM = 2
GONE = "ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_EMPTY_RESPONSE"
"""What a browser says of a proxy that was stopped."""


@dataclass
class Stage:
    """A proxy whose one replica has room for two requests; what does not fit spills."""

    background: Background
    engine: EngineSimulator
    provider: ProviderSimulator
    policy: Path

    @contextlib.contextmanager
    def proxy(self, *options: str, **env: str) -> Iterator[Served]:
        """A proxy by that policy, as a process."""
        with self.background.held(serving(self.policy, *options, env=env)) as served:
            yield served

    def post(self, served: Served, *bodies: dict[str, object]) -> list[int]:
        """Send all at once; the status of each answer."""

        async def all_at_once() -> list[int]:
            return [reply.status for reply in await asyncio.gather(*(served.post(body) for body in bodies))]

        return self.background.run(all_at_once())


@pytest.fixture
def stage(background: Background, tmp_path: Path, witness: Witness) -> Iterator[Stage]:
    witness.expected.append(GONE)
    with background.held(engine(speed=2.0)) as gpu, background.held(provider()) as api:
        policy = write_policy(tmp_path, gpu=gpu.url, api=api.url)
        text = policy.read_text().replace(
            "retention: zero}",
            f"retention: zero, max_in_flight: {ROOM},\n    gpus: {{type: H100, count: 4, usd_per_hour: 2.99}}}}",
        )
        policy.write_text(text)
        yield Stage(background, gpu, api, policy)


def url(served: Served) -> str:
    return f"http://127.0.0.1:{served.admin_port}/"


def test_it_shows_a_spill_as_it_happens(stage: Stage, visit: Open, witness: Witness) -> None:
    with stage.proxy() as served:
        page = shown(visit(url(served)))
        expect(page.locator("#health")).to_have_text("Healthy")
        expect(page.locator("#decisions-empty")).to_have_text("No request has ended yet.")
        expect(page.locator("#own")).to_contain_text("4 x H100")

        assert stage.post(served, ask(stream=True)) == [200]
        expect(page.locator(".decision").first).to_have_attribute("data-kind", "preferred")
        expect(page.locator(".decision").first).to_contain_text("gpu")

        assert stage.post(served, *[ask(60, stream=True) for _ in range(3 * ROOM)]) == [200] * 3 * ROOM
        spilled = page.locator(".decision[data-kind=spilled]").first
        reason = re.compile(f"spilled: .*{ROOM} of {ROOM} in flight")
        expect(spilled.locator(".reason")).to_have_text(reason)
        expect(page.locator("#announcer")).to_have_text(re.compile(f"Spilling: .*{ROOM} of {ROOM} in flight"))
        expect(page.locator("#traffic-why")).to_have_text(re.compile(f"{ROOM} of {ROOM} in flight"))
        expect(page.locator("#traffic-text")).to_have_text(re.compile("[0-9]+% spilled in the last "))
        spilled.locator("button").click()
        expect(page.locator(".detail table")).to_contain_text(f"{ROOM} of {ROOM} in flight")
        expect(page.locator("#cost")).to_have_text(re.compile(r"^\$\d"))
    assert {one.split("?")[0] for one in witness.requested} >= {url(served), f"{url(served)}admin/live"}


def test_it_follows_a_load(stage: Stage, visit: Open) -> None:
    with stage.proxy() as served:
        page = shown(visit(url(served)))
        for _ in range(3):
            stage.post(served, *[ask(20, stream=True) for _ in range(20)])
        expect(page.locator(".decision:visible")).to_have_count(50, timeout=10_000)
        expect(page.locator("#traffic-text")).to_have_text(re.compile(r"^[1-9]\d*(\.\d)? requests/s"))
        spill = page.locator("#charts .plot").first
        expect(spill).to_have_attribute("aria-label", re.compile(r"Spill share, .*spilled [1-9]\d?%$"), timeout=10_000)


def test_what_a_caller_names_is_shown_as_text(stage: Stage, visit: Open) -> None:
    nasty = '<img src=x onerror="window.hurt=1">\u202e</script><script>window.hurt=1</script>'
    with stage.proxy() as served:
        page = shown(visit(url(served)))
        assert stage.post(served, ask() | {"model": nasty}) == [404]
        refused = page.locator(".decision[data-kind=refused]").first
        expect(refused).to_be_visible()
        refused.locator("button").click()
        expect(page.locator(".detail")).to_contain_text("<img src=x onerror=")
        assert page.evaluate("window.hurt") is None
        assert page.locator("main img, main script").count() == 0


def test_the_policys_own_names_may_be_hostile_too(stage: Stage, visit: Open) -> None:
    """As hostile as the compiler lets them be."""
    names = ["__proto__", "constructor", "javascript:alert/1", "a" * 128, "-._:/"]
    more = [f"  '{name}': {{lane: dedicated, engine: openai, url: '{stage.engine.url}', model: x}}\n" for name in names]
    stage.policy.write_text(stage.policy.read_text().replace("models:", "".join(more) + "models:"))
    with stage.proxy() as served:
        page = shown(visit(url(served)))
        expect(page.locator("#own .target-name")).to_have_text(["gpu", *names])
        assert page.locator("#chart-price ~ select option").all_inner_texts()[-1] == "-._:/"
        page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")


def test_the_token_is_asked_for_and_stays_in_the_tab(stage: Stage, visit: Open, witness: Witness) -> None:
    witness.expected.append("401")
    with stage.proxy(SPILLWAY_ADMIN_TOKEN=TOKEN) as served:
        served.headers = {"authorization": f"Bearer {TOKEN}"}
        page = visit(url(served))
        ask_for = page.get_by_role("dialog", name="Admin token")
        expect(ask_for).to_be_visible()
        expect(page.get_by_label("Token", exact=True)).to_be_focused()
        page.keyboard.press("Escape")
        expect(ask_for).to_be_visible()
        page.get_by_label("Token", exact=True).fill("not-this-one")
        page.keyboard.press("Enter")
        expect(page.locator("#ask-text")).to_have_text("The proxy does not know this token.")
        page.get_by_label("Token", exact=True).fill(TOKEN)
        page.get_by_role("button", name="Show the console").click()
        expect(ask_for).to_be_hidden()
        shown(page)
        page.reload()
        shown(page)
        expect(ask_for).to_be_hidden()
        assert TOKEN not in page.url
        assert not [one for one in witness.requested if TOKEN in one]
        assert (
            page.evaluate("JSON.stringify(localStorage) + document.cookie + document.documentElement.outerHTML").count(
                TOKEN
            )
            == 0
        )
        elsewhere = visit(url(served))
        expect(elsewhere.get_by_role("dialog", name="Admin token")).to_be_visible()
        page.get_by_role("button", name="Forget the token").click()
        expect(ask_for).to_be_visible()
        assert page.evaluate("sessionStorage.length") == 0


def test_it_comes_back_with_the_proxy(stage: Stage, visit: Open) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with stage.proxy("--admin-port", port) as served:
        page = shown(visit(url(served)))
        stage.post(served, ask())
        expect(page.locator(".decision:visible")).to_have_count(1)
    expect(page.locator("#heard")).to_have_attribute("data-state", "away")
    expect(page.locator("#heard")).to_contain_text("last heard")
    expect(page.locator(".decision:visible")).to_have_count(1)
    with stage.proxy("--admin-port", port):
        expect(page.locator("#heard")).to_have_text("live", timeout=20_000)
        expect(page.locator(".decision:visible")).to_have_count(0)
