"""The frame of a report's page."""

from __future__ import annotations

from proxy.advisor.page import page, section


def test_a_page_is_whole_and_its_title_is_text() -> None:
    text = page("a < b", "<p>body</p>", "p.own { color: #000; }")
    assert text.startswith("<!doctype html>\n<html")
    assert text.endswith("<p>body</p></body></html>\n")
    assert "<title>a &lt; b</title>" in text
    assert text.index("table {") < text.index("p.own {") < text.index("</style>")


def test_a_section_escapes_words_and_leaves_plots_alone() -> None:
    text = section("a < b\nc", "<svg></svg>", "x & y", "<table></table>")
    assert "<h2>a &lt; b<br>c</h2><figure><svg></svg><figcaption>x &amp; y</figcaption></figure><table></table>" in text
    assert "figcaption" not in section("a", "<svg></svg>")
