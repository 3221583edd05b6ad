"""What all plots have in common."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import matplotlib as mpl
from proxy.advisor.drawing import drawn


def plot(title: str) -> str:
    with drawn(2.0) as (figure, draw):
        axes = figure.add_subplot()
        axes.bar(0, 1, hatch="//", label="one")
        axes.legend()
        return draw(title)


def test_an_svg_says_what_it_shows() -> None:
    root = ET.fromstring(plot("Cost <& more>"))
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == "Cost <& more>"
    assert "one" in ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]


def test_names_are_each_plot_s_own_and_what_they_refer_to_is_there() -> None:
    cost, waits = plot("Cost"), plot("Waits")
    names = [re.findall(r'\bid="([^"]+)"', svg) for svg in (cost, waits)]
    assert len(names[0]) == len(set(names[0]))
    assert set(names[0]).isdisjoint(names[1])
    assert set(re.findall(r"url\(#([^)]+)\)", cost)) <= set(names[0])
    assert re.findall(r'href="#([^"]+)"', cost)
    assert set(re.findall(r'href="#([^"]+)"', cost)) <= set(names[0])


def test_the_same_plot_is_the_same_text_and_settings_do_not_leak() -> None:
    before = mpl.rcParams["font.size"], mpl.rcParams["axes.grid"]
    assert plot("Cost") == plot("Cost")
    assert (mpl.rcParams["font.size"], mpl.rcParams["axes.grid"]) == before
