"""The console's pure parts: figures, events, rings."""

from __future__ import annotations

from tests.browser.conftest import NOTHING, Open
from tests.browser.puppet import Puppet


def test_figures_read_the_same_everywhere(admin: Puppet, visit: Open) -> None:
    page = visit(admin.url)
    cases = {
        "seconds": {
            0.0004: "0.4 ms",
            0.0381: "38 ms",
            0.9996: "1.00 s",
            1.923: "1.92 s",
            41.26: "41.3 s",
            250: "250 s",
        },
        "duration": {41.9: "41 s", 720: "12 min", 18180: "5 h 3 min", 273600: "3 d 4 h"},
        "usd": {
            0: "$0",
            0.0000123: "$0.000012",
            0.00042: "$0.00042",
            0.0134: "$0.013",
            4.2: "$4.20",
            1234.4: "$1,234",
            -3.5: "\u2212$3.50",
        },
        "percent": {0: "0%", 0.001: "<1%", 0.284: "28%", 0.999: ">99%", 1: "100%"},
        "count": {0: "0", 842: "842", 12345: "12.3k", 999499: "999k", 4560000: "4.56M", 7.2e9: "7.20G"},
        "rate": {0.42: "0.4", 18.2: "18.2", 250: "250"},
    }
    for name, pairs in cases.items():
        told = page.evaluate(
            "async ([name, values]) => values.map((await import('/console/format.js'))[name])",
            [name, list(pairs)],
        )
        assert told == list(pairs.values()), name
        for nothing in ("null", "undefined", "NaN"):
            assert page.evaluate(f"async () => (await import('/console/format.js')).{name}({nothing})") == NOTHING


def test_events_are_the_same_however_they_are_cut(admin: Puppet, visit: Open) -> None:
    page = visit(admin.url)
    text = ": hello\r\nretry: 1000\nid: 1\ndata: one\n\ndata:two\r\ndata:  lines\r\n\r\n\nevent: x\n\ndata: last\n\n"
    wanted = ["one", "two\n lines", "last"]
    for size in (1, 2, 3, 7, len(text)):
        told = page.evaluate(
            """async ([text, size]) => {
              const { EventReader } = await import("/console/stream.js");
              const reader = new EventReader();
              const found = [];
              for (let at = 0; at < text.length; at += size) found.push(...reader.feed(text.slice(at, at + size)));
              return found;
            }""",
            [text, size],
        )
        assert told == wanted, size


def test_a_view_from_the_past_or_twice_is_drawn_once(admin: Puppet, visit: Open) -> None:
    page = visit(admin.url)
    told = page.evaluate(
        """async () => {
          const { History } = await import("/console/history.js");
          const history = new History(4);
          for (const [at, value] of [[1, 10], [2, null], [2, 99], [3, 30], [4, 40], [5, 50], [1, 7]]) {
            history.note(at, new Map([["a", value], ...(at > 3 ? [["b", at]] : [])]));
          }
          const before = history.columns(["a", "b", "none"], 10);
          for (let at = 6; at < 12; at++) history.note(at, new Map([["b", at]]));
          return [before, history.series];
        }"""
    )
    assert told == [[[2, 3, 4, 5], [None, 30, 40, 50], [None, None, 4, 5], [None] * 4], 1]
