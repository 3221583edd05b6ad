"""The Grafana dashboards as code: `python -m dashboards` writes `helm/dashboards/*.json`.

A few frozen dataclasses of our own and not Grafana's foundation SDK: what PyPI has of that writes the schema of two
majors ago, its builders check nothing that our tests would not check again, and a panel takes twenty lines there
against five here. What is written is read by anybody who opens a dashboard's JSON; the code has one place for each
thing that all panels share.
"""
