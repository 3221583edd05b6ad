"""Takes the README's pictures of the console: `python -m tests.browser.picture docs`, with `chromium` on the PATH.

A real proxy serves simulated engines and providers under a load that rises until it spills; the page is the real one.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from playwright.async_api import Browser, async_playwright
from proxy.simulator.load import Load, LoadCurve
from tests.e2e.processes import engine, provider, serving

FLEET = {"llama-70b-eu": 3, "llama-70b-us": 2, "support-ft": 1}
PRICES = {"together": 0.88, "openai-eu": 1.10}
MORE = """\
routes:
  - name: interactive
    match: {model: [llama-70b-eu, llama-70b-us]}
    want: {ttft_p99: 800ms, itl_p99: 60ms}
  - name: default
    want: {ttft_p99: 2s}
budgets:
  - {name: growth-spill, lane: shared, limit: $500/day, enforce: hard}
"""
SIZE = {"width": 1280, "height": 960}
AFTER_S = 75.0


async def main(folder: Path) -> None:
    """Both themes."""
    async with AsyncExitStack() as stack:
        policy = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "policy.yaml"
        policy.write_text(await _policy(stack))
        served = await stack.enter_async_context(serving(policy))
        browser = await (await stack.enter_async_context(async_playwright())).chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        loads = [Load(f"http://127.0.0.1:{served.port}/v1", model, lambda visit, turn: None) for model in FLEET]
        curves = [LoadCurve(low=1.5 * count, high=5.5 * count, period_s=50.0) for count in FLEET.values()]
        following = [asyncio.create_task(load.follow(one)) for load, one in zip(loads, curves, strict=True)]
        await asyncio.sleep(AFTER_S)
        for name, theme in (("console", "light"), ("console-dark", "dark")):
            await _shoot(browser, f"http://127.0.0.1:{served.admin_port}/", theme, folder / f"{name}.png")
        for task in following:
            task.cancel()
        await asyncio.gather(*(load.drain(0.5) for load in loads))
        await browser.close()


async def _policy(stack: AsyncExitStack) -> str:
    text = "version: 1\ntargets:\n"
    for name, count in FLEET.items():
        engines = [await stack.enter_async_context(engine(speed=1.0, natural_tokens=300)) for _ in range(count)]
        text += (
            f"  {name}: {{lane: dedicated, engine: vllm, urls: {[one.url for one in engines]}, model: simulated-llama,"
            f" region: {'us-east-1' if 'us' in name else 'eu-west-1'}, retention: zero, max_in_flight: 6,"
            " gpus: {type: H100, count: 1, usd_per_hour: 2.49}}\n"
        )
    for name, price in PRICES.items():
        api = await stack.enter_async_context(provider(tokens_per_s=70))
        text += (
            f"  {name}: {{lane: shared, provider: openai, url: '{api.url}', model: simulated-llama, retention: 30d,"
            f" api_key: '${{PROVIDER_KEY}}', region: {'eu-central-1' if 'eu' in name else 'us'},"
            f" price: {{input: {price}, output: {price}}}}}\n"
        )
    return text + "models:\n" + "".join(f"  {name}: [{name}, {', '.join(PRICES)}]\n" for name in FLEET) + MORE


async def _shoot(browser: Browser, url: str, theme: str, path: Path) -> None:
    page = await browser.new_page(viewport=SIZE, color_scheme=theme)
    await page.goto(url)
    await page.get_by_role("radio", name="Spilled").check()
    await page.locator(".decision").first.wait_for()
    await page.mouse.move(1, 1)
    await page.wait_for_timeout(3000)
    await page.screenshot(path=path)
    await page.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
