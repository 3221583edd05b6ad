"""Write the dashboards where the chart takes them from."""

from __future__ import annotations

from pathlib import Path

from dashboards.book import BOOK
from dashboards.grafana import text_of

FOLDER = Path(__file__).resolve().parent.parent / "helm" / "dashboards"


def main() -> None:
    """One file a dashboard; the same bytes every time."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for dashboard in BOOK:
        (FOLDER / f"{dashboard.name}.json").write_text(text_of(dashboard), encoding="utf-8")


if __name__ == "__main__":
    main()
