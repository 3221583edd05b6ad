"""Writes all that is made from other files: `python -m tests.helm.renew`, and then read the difference."""

from __future__ import annotations

from pathlib import Path

from tests.helm import chart, providers, readme_table


def main() -> None:
    providers.FILE.write_text(providers.text())
    readme_table.README.write_text(readme_table.renewed())
    folder = Path(__file__).parent / "rendered"
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.yaml"):
        if path.stem not in chart.SCENARIOS:
            path.unlink()
    for scenario in chart.SCENARIOS:
        (folder / f"{scenario}.yaml").write_text(chart.kept(scenario))


if __name__ == "__main__":
    main()
