"""The page with plots: whole, well-formed, and readable without scripts, colour or a network."""

from __future__ import annotations

import functools
import re
import xml.etree.ElementTree as ET

from proxy.advisor.figures import figures
from proxy.advisor.replay_html import to_html
from proxy.advisor.trace import App
from tests.advisor.replays import one_policy, replayed, report_of, trace_of, two_policies

SVG = "{http://www.w3.org/2000/svg}"


@functools.cache
def page_of_one() -> str:
    return to_html(one_policy())


@functools.cache
def page_of_two() -> str:
    return to_html(two_policies())


def test_plots_are_well_formed_and_have_titles() -> None:
    svgs = re.findall(r"<svg.*?</svg>", page_of_one() + page_of_two(), re.DOTALL)
    assert len(svgs) == 11
    for svg in svgs:
        root = ET.fromstring(svg)
        assert root.find(".//{http://purl.org/dc/elements/1.1/}title") is not None
        assert root.find(f".//{SVG}image") is None  # nothing is a bitmap


def test_the_page_is_one_file_without_scripts_or_links() -> None:
    page = page_of_two()
    assert "<script" not in page
    assert re.findall(r'(?:src|href)="(?!#)[^"]*"', page) == []
    assert re.findall(r"url\((?!#)", page) == []
    assert "@import" not in page
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(names) == len(set(names)) > 100


def test_the_page_says_what_was_found() -> None:
    page = page_of_one()
    assert "<h2>Cheapest with 1 replica: $10.94 an hour, against $14.72 with none</h2>" in page
    assert "52 % above the least that any rule could pay" in page
    assert "3,600 requests in 60 min (1 a second), of 1,000 input and 200 output tokens" in page
    assert "first token within 2 s, 50 ms per output token" in page
    assert "Engines are modelled." in page
    assert '<tr class="best"><td>policy.yaml</td><td>1</td>' in page
    assert "spilled: no room" in page


def test_two_policies_stand_side_by_side() -> None:
    assert "<td>served in time</td><td>99.92 %</td><td>99.61 %</td><td>-0.31 points</td>" in page_of_two()
    assert "side by side" not in page_of_one()


def test_names_are_escaped() -> None:
    page = page_of_two()
    assert "<other>" not in page
    assert "&lt;other&gt;.yaml" in page


def test_long_tables_are_cut() -> None:
    apps = tuple(App(name=f"app-{number}") for number in range(30))
    trace = trace_of(list(range(30)), span_s=30.0, app=list(range(30)), apps=apps)
    page = to_html(report_of(figures(replayed("d" * 30, [0.1] * 30, trace=trace))))
    assert "10 more are in the JSON" in page
    assert page.count(">app-") == 20
