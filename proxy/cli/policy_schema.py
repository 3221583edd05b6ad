"""`spillway policy schema`: the JSON Schema of policies, for editors and for whoever writes policies by program."""

from __future__ import annotations

import json

import typer

app = typer.Typer(add_completion=False)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a policy. In the file: `# yaml-language-server: $schema=policies/schema.json`."""
    from proxy.policy.json_schema import policy_schema

    typer.echo(json.dumps(policy_schema(), indent=1))
