"""`spillway keys`: makes, lists and revokes the keys by which tenants call. A policy holds digests, never a key."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from proxy.cli.keys_policy import Keys

app = typer.Typer(name="keys", no_args_is_help=True, add_completion=False, help="Make, list and revoke tenants' keys.")

PolicyPath = Annotated[
    Path | None, typer.Option("--policy", envvar="SPILLWAY_POLICY", help="Policy file, or a folder of them")
]
Write = Annotated[bool, typer.Option("--write", help="Change the policy's file; a proxy that serves it follows")]
Limit = Annotated[str, typer.Option(help="As in a policy: 60, 2k, 2M")]
Name = Annotated[str, typer.Argument(metavar="TENANT[/NAME]", help="Whose key, and its name")]
Which = Annotated[str, typer.Argument(metavar="TENANT/NAME|sha256:PREFIX", help="The key's name, or first digits")]


@app.command()
def create(
    key: Name,
    tags: Annotated[str, typer.Option(help="Tags of the key, between commas")] = "",
    rpm: Limit = "",
    tpm: Limit = "",
    concurrency: Limit = "",
    policy: PolicyPath = None,
    write: Write = False,
    secret: Annotated[str, typer.Option(metavar="NAME", help="Print a Kubernetes Secret with it instead")] = "",
    namespace: Annotated[str, typer.Option(help="Namespace of that Secret")] = "",
) -> None:
    """Make a key. It is printed once, alone on standard output; what the policy says of it is told beside it.

    With --secret the manifest has standard output, for `kubectl apply -f -`, and the key standard error.
    """
    from proxy.cli.keys_create import Options, created
    from proxy.cli.keys_policy import KeysRefused

    limits = {name: value for name, value in (("rpm", rpm), ("tpm", tpm), ("concurrency", concurrency)) if value}
    words = tuple(word for word in (word.strip() for word in tags.split(",")) if word)
    options = Options(tags=words, limits=limits, policy=policy, write=write, secret=secret, namespace=namespace)
    try:
        made = created(key, options)
    except KeysRefused as error:
        _fail(error)
    if made.manifest:
        print(made.manifest, end="")
        print(f"key     {made.key}", file=sys.stderr)
    else:
        print(made.key, flush=True)
    if sys.stderr.isatty():
        typer.secho("This key is shown once. Keep it now: nobody can tell it from its digest.", err=True, bold=True)
    print(made.told, file=sys.stderr)


@app.command("list")
def list_(
    policy: PolicyPath = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON")] = False,
) -> None:
    """List tenants and their keys by name and first digits of the digest, with tags, limits and file."""
    from proxy.cli.keys_table import keys_json, print_keys

    keys = _read(policy)
    if as_json:
        typer.echo(keys_json(keys))
    else:
        print_keys(keys)


@app.command()
def revoke(which: Which, policy: PolicyPath = None, write: Write = False) -> None:
    """Take a key out of the policy; without --write, say where it stands.

    A proxy that follows the file turns the key away from the next request on.
    """
    from proxy.cli.keys_edit import NotEditable, without_key
    from proxy.cli.keys_policy import KeysRefused, check_with
    from proxy.cli.keys_policy import write as write_file

    keys = _read(policy)
    try:
        held = keys.find(which)
        file = keys.file(held.place.path)
        edited = without_key(file, held.key.tenant.name, held.index)
        check_with(keys, edited)
        if write:
            write_file(file, edited)
    except (KeysRefused, NotEditable) as error:
        _fail(error)
    place = f"{held.place.path}:{held.place.line}"
    if write:
        print(f"revoked {held.shown}, which stood in {place}")
    else:
        print(f"{place}: {held.shown}; nothing is written (hint: add `--write`)")


def _read(policy: Path | None) -> Keys:
    from proxy.cli.keys_policy import KeysRefused, read_keys

    if policy is None:
        _fail("which policy? (hint: name it with `--policy`, or in SPILLWAY_POLICY)")
    try:
        return read_keys(policy)
    except KeysRefused as error:
        _fail(error)


def _fail(message: object) -> NoReturn:
    print(message, file=sys.stderr)
    raise typer.Exit(1)
