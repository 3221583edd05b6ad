"""`spillway keys`: what is made is shown once, and what is written changes nothing else of the policy."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from proxy.cli.keys import app
from proxy.cli.keys_edit import NotEditable, with_key, without_key
from proxy.cli.keys_item import digest_of, item_of, new_key, quoted
from proxy.cli.keys_policy import KeysRefused, read_keys, write
from proxy.cli.keys_secret import is_namespace, is_secret_name, manifest
from proxy.policy.document import read_document
from proxy.policy.source import Signs, Source, SourceFile, read_source
from proxy.policy.watch import Watch
from typer.testing import CliRunner, Result

HEAD = """\
version: 1   # of the policy
targets:
  local: {lane: dedicated, engine: vllm, url: "http://127.0.0.1:8000/v1", model: m, api_key: "${LOCAL_KEY}"}
models: {m: [local]}
"""
A, B, C = (hashlib.sha256(name.encode()).hexdigest() for name in "abc")
POLICY = f"""{HEAD}
tenants:   # who may call
  bank:
    keys:
      - sha256:{A}  # the laptop

      - {{name: ci, digest: sha256:{B}, tags: [eval], rpm: 60}}
      # no more than these
    tags: [gdpr]
    rpm: 600
  growth: {{keys: [sha256:{C}], models: [m]}}  # pays by the month
routes:
  - name: default
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def opens(path: Path, key: str) -> str | None:
    """The name of the tenant that `key` opens, or that of the key itself."""
    found = read_keys(path).compiled.snapshot.key_of(key.encode())
    return found and (found.name or found.tenant.name)


def added(before: str, after: str) -> list[str]:
    """The lines of `after` that `before` lacks, if it has all the others in their order."""
    rest = iter(before.splitlines(keepends=True))
    pending = next(rest, None)
    new = []
    for line in after.splitlines(keepends=True):
        if line == pending:
            pending = next(rest, None)
        else:
            new.append(line)
    assert pending is None
    return new


# --- create


def test_a_key_is_alone_on_standard_output_and_opens_the_door_once_it_is_written(policy: Path) -> None:
    result = invoke("create", "bank/app", "--tags", "eval, canary", "--rpm", "60", "--policy", str(policy), "--write")
    assert result.exit_code == 0, result.output
    key = result.stdout.removesuffix("\n")
    assert re.fullmatch(r"sk-spw-[A-Za-z0-9_-]{43}", key)
    assert opens(policy, key) == "bank/app"
    digest = hashlib.sha256(key.encode()).hexdigest()
    (line,) = added(POLICY, policy.read_text())
    assert line == f"      - {{name: app, digest: sha256:{digest}, tags: [eval, canary], rpm: 60}}\n"
    number = policy.read_text().splitlines(keepends=True).index(line) + 1
    assert result.stderr == f"digest  sha256:{digest}\npolicy  written to {policy}:{number}\n"
    assert key not in policy.read_text()


def test_no_two_keys_are_alike() -> None:
    assert len({new_key() for _ in range(100)}) == 100


def test_a_key_between_brackets_joins_the_others_there(policy: Path) -> None:
    key = invoke("create", "growth", "--policy", str(policy), "--write").stdout.strip()
    assert policy.read_text() == POLICY.replace(f"[sha256:{C}]", f"[sha256:{C}, sha256:{digest_of(key)}]")
    assert opens(policy, key) == "growth"


def test_without_writing_it_says_what_and_where_to_write(policy: Path) -> None:
    result = invoke("create", "bank/app", "--policy", str(policy))
    digest = hashlib.sha256(result.stdout.strip().encode()).hexdigest()
    assert f"policy  add at {policy}:12, or say `--write`:" in result.stderr
    assert f"  - {{name: app, digest: sha256:{digest}}}" in result.stderr
    assert policy.read_text() == POLICY


def test_without_a_policy_a_key_can_be_made_all_the_same() -> None:
    result = invoke("create", "shop/a/b")
    digest = hashlib.sha256(result.stdout.strip().encode()).hexdigest()
    assert result.stderr.splitlines()[1:] == [
        "policy  add to `keys:` of tenant `shop`:",
        f"  - {{name: a/b, digest: sha256:{digest}}}",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "bnak", "--write"], "no tenant `bnak` in `{policy}` (hint: did you mean `bank`?)"),
        (["create", "bank/ci"], "there is a key `bank/ci` already (hint: choose another name, or revoke it first)"),
        (["create", "bank", "--rpm", "5"], "a key with limits needs a name (hint: `bank/ci`;"),
        (["create", "bank/x", "--rpm", "many"], "expected a whole number, got `many` (hint: write `64`, `2k` or `2M`)"),
        (["create", "bank/x y"], "`x y` is not a valid name"),
        (["create", "bank/"], "empty, or with blanks"),
        (["create", "bank/x", "--tags", "a b"], "`a b` is not a valid name"),
        (["create", "bank", "--write", "--secret", "x"], "`--write` and `--secret` are two places"),
        (["create", "bank", "--namespace", "x"], "`--namespace` is that of a Secret"),
        (["create", "bank", "--secret", "Nope"], "`Nope` is no name for a Secret"),
        (["create", "bank", "--secret", "x", "--namespace", "a.b"], "`a.b` is no namespace"),
        (["revoke", "bank/cl"], "no key `bank/cl` in `{policy}` (hint: did you mean `bank/ci`?)"),
        (["revoke", "sha256:abc"], "`sha256:abc` is too short (hint: give 6 digits or more)"),
        (["revoke", "sha256:000000"], "no key `sha256:000000` in `{policy}` (hint: `spillway keys list`)"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(policy: Path, arguments: list[str], said: str) -> None:
    result = invoke(*arguments, "--policy", str(policy))
    assert (result.exit_code, result.stdout) == (1, "")
    assert said.format(policy=policy) in result.stderr
    assert policy.read_text() == POLICY
    assert "sk-spw-" not in result.output


def test_writing_needs_a_policy() -> None:
    for arguments in (["create", "bank", "--write"], ["list"], ["revoke", "bank/ci"]):
        result = CliRunner(env={"SPILLWAY_POLICY": None}).invoke(app, arguments)
        assert (result.exit_code, "--policy" in result.stderr) == (1, True)


def test_a_policy_with_mistakes_is_not_touched(policy: Path) -> None:
    broken = POLICY.replace("rpm: 600", "rpm: lots")
    policy.write_text(broken)
    result = invoke("create", "bank", "--policy", str(policy), "--write")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{policy}:14:10: expected a whole number" in result.stderr
    assert policy.read_text() == broken


def test_a_key_that_a_route_names_is_not_taken_away_from_under_it(policy: Path) -> None:
    policy.write_text(POLICY.replace("- name: default", "- {name: ci, match: {key: bank/ci}}\n  - name: default"))
    before = policy.read_text()
    result = invoke("revoke", "bank/ci", "--policy", str(policy), "--write")
    assert result.exit_code == 1
    assert "unknown key `bank/ci`" in result.stderr
    assert "nothing is written" in result.stderr
    assert policy.read_text() == before


def test_a_file_that_may_not_be_written_is_said_to_be_so(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # to root, nothing is read-only
    result = invoke("create", "bank", "--policy", str(policy), "--write")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"`{policy}` cannot be written: permission denied" in result.stderr


def test_a_folder_that_is_gone_is_said_to_be_so(policy: Path, tmp_path: Path) -> None:
    gone = SourceFile(str(tmp_path / "gone" / "policy.yaml"), "a")
    with pytest.raises(KeysRefused, match="cannot be written: no such file"):
        write(gone, gone)


def test_what_somebody_else_has_written_meanwhile_is_not_written_over(policy: Path) -> None:
    before = SourceFile(str(policy), POLICY)
    policy.write_text(f"{POLICY}# mine\n")
    with pytest.raises(KeysRefused, match="has changed meanwhile"):
        write(before, SourceFile(str(policy), "other"))
    assert policy.read_text() == f"{POLICY}# mine\n"


def test_a_file_is_replaced_in_one_step_and_keeps_its_mode_links_and_byte_order_mark(tmp_path: Path) -> None:
    real, link = tmp_path / "real.txt", tmp_path / "policy.yaml"
    real.write_bytes(b"\xef\xbb\xbf" + POLICY.replace("\n", "\r\n").encode())
    real.chmod(0o640)
    link.symlink_to(real)
    inode = real.stat().st_ino
    result = invoke("create", "bank", "--policy", str(link), "--write")
    assert result.exit_code == 0, result.output
    assert link.is_symlink()
    assert (real.stat().st_mode & 0o777, real.stat().st_ino != inode) == (0o640, True)
    data = real.read_bytes()
    assert data.startswith(b"\xef\xbb\xbfversion")
    assert data.count(b"\n") == data.count(b"\r\n") == POLICY.count("\n") + 1
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["policy.yaml", "real.txt"]


def test_a_tenant_with_slashes_in_its_name_is_found(policy: Path) -> None:
    policy.write_text(POLICY.replace("  growth:", "  bank/eu:"))
    assert (
        opens(policy, invoke("create", "bank/eu/x", "--policy", str(policy), "--write").stdout.strip()) == "bank/eu/x"
    )
    assert (
        opens(policy, invoke("create", "bank/us/x", "--policy", str(policy), "--write").stdout.strip()) == "bank/us/x"
    )
    assert {one.key.tenant.name for one in read_keys(policy).held if one.key.name.endswith("/x")} == {"bank", "bank/eu"}


# --- a Secret


def test_a_secret_holds_a_piece_of_policy_that_can_lie_beside_it(policy: Path) -> None:
    result = invoke("create", "bank/app", "--secret", "spillway-bank", "--namespace", "ai", "--policy", str(policy))
    made = yaml.safe_load(result.stdout)
    assert (made["kind"], made["metadata"]) == ("Secret", {"name": "spillway-bank", "namespace": "ai"})
    for name, text in made["stringData"].items():
        (policy.parent / name).write_text(text)
    key = re.search(r"^key +(\S+)$", result.stderr, re.MULTILINE)
    assert key is not None
    assert opens(policy.parent, key[1]) == "bank/app"
    assert key[1] not in result.stdout
    assert policy.read_text() == POLICY
    listed = json.loads(invoke("list", "--json", "--policy", str(policy.parent)).stdout)["tenants"][0]["keys"]
    assert [Path(one["file"]).name for one in listed] == ["policy.yaml", "policy.yaml", "spillway-bank.yaml"]
    revoked = invoke("revoke", "bank/app", "--policy", str(policy.parent), "--write")
    assert "spillway-bank.yaml:4" in revoked.stdout
    assert opens(policy.parent, key[1]) is None


def test_names_that_kubernetes_or_a_folder_would_not_take() -> None:
    assert [is_secret_name(word) for word in ("a", "a-b.c", "A", "-a", "a..b", "x.test", "a" * 254)] == [True, True] + [
        False
    ] * 5
    assert [is_namespace(word) for word in ("a", "a-b", "a.b", "a-")] == [True, True, False, False]
    assert "namespace" not in manifest("a", "", "bank", "sha256:0")


@given(st.from_regex(r"[A-Za-z0-9._:/-]{1,20}", fullmatch=True))
def test_any_name_comes_back_from_yaml_as_it_was(name: str) -> None:
    item = item_of(A, name, (name, "x"), {"rpm": "2k"})
    assert read_document((SourceFile("", f"the key: [{item}]\n{quoted(name)}: v"),), {}).root == {
        "the key": [{"name": name, "digest": f"sha256:{A}", "tags": [name, "x"], "rpm": "2k"}],
        name: "v",
    }


# --- list


def test_the_list_tells_keys_apart_and_tells_no_more(policy: Path) -> None:
    result = invoke("list", "--policy", str(policy))
    rows = [
        re.split(r"\s{2,}", line.strip()) for line in result.stdout.splitlines() if "bank" in line or "growth" in line
    ]
    assert rows == [
        ["bank", "gdpr", "600 rpm"],
        ["bank", "-", f"sha256:{A[:12]}", "policy.yaml:9"],
        ["bank", "ci", f"sha256:{B[:12]}", "eval", "60 rpm", "policy.yaml:11"],
        ["growth", "-", f"sha256:{C[:12]}", "policy.yaml:15"],
    ]
    assert A not in result.stdout


def test_a_policy_without_tenants_is_said_to_need_no_keys(policy: Path) -> None:
    policy.write_text(HEAD)
    assert "nobody needs a key" in invoke("list", "--policy", str(policy)).stdout


def test_a_digest_from_the_environment_is_listed_by_the_name_of_its_variable(policy: Path) -> None:
    policy.write_text(POLICY.replace(f"- sha256:{A}", "- sha256:${BANK_SHA256}"))
    assert "sha256:${BANK_SHA256}" in invoke("list", "--policy", str(policy)).stdout
    assert invoke("create", "bank/x", "--policy", str(policy), "--write").exit_code == 0
    assert "- sha256:${BANK_SHA256}  # the laptop" in policy.read_text()


# --- revoke


def test_a_revoked_key_is_gone_and_all_comments_stay(policy: Path) -> None:
    dry = invoke("revoke", "bank/ci", "--policy", str(policy))
    assert (policy.read_text(), dry.stdout) == (
        POLICY,
        f"{policy}:11: bank/ci (sha256:{B[:12]}); nothing is written (hint: add `--write`)\n",
    )
    result = invoke("revoke", "bank/ci", "--policy", str(policy), "--write")
    assert result.stdout == f"revoked bank/ci (sha256:{B[:12]}), which stood in {policy}:11\n"
    assert len(added(policy.read_text(), POLICY)) == 1
    assert "# no more than these" in policy.read_text()


def test_a_key_can_be_named_by_the_first_digits_of_its_digest_if_they_are_its_alone(policy: Path) -> None:
    twin = A[:8] + B[8:]
    policy.write_text(POLICY.replace(f"digest: sha256:{B}", f"digest: sha256:{twin}"))
    result = invoke("revoke", f"sha256:{A[:8]}", "--policy", str(policy), "--write")
    assert result.exit_code == 1
    assert f"may be any of a key of bank (sha256:{A[:12]}), bank/ci (sha256:{twin[:12]})" in result.stderr
    assert invoke("revoke", f"sha256:{A[:12].upper()}", "--policy", str(policy), "--write").exit_code == 0
    assert A not in policy.read_text()


def test_the_last_key_can_be_revoked_and_nobody_gets_in_then(policy: Path) -> None:
    for digest in (A, B, C):
        result = invoke("revoke", f"sha256:{digest[:16]}", "--policy", str(policy), "--write")
        assert result.exit_code == 0, result.output
    keys = read_keys(policy)
    assert keys.held == ()
    assert keys.compiled.snapshot.key_of(b"anything") is None
    assert keys.compiled.snapshot.key_of(None) is None
    assert invoke("list", "--policy", str(policy)).stdout.count("nobody gets in") == 2
    key = invoke("create", "bank/again", "--policy", str(policy), "--write").stdout.strip()
    assert opens(policy, key) == "bank/again"


class _Disk:
    def __init__(self, path: Path) -> None:
        self.path = path

    def signs(self) -> Signs:
        return ()

    def read(self) -> Source:
        return read_source(self.path)


@pytest.mark.parametrize("ending", ["\n", ""])
def test_a_proxy_takes_the_text_for_whole_even_if_the_key_stood_at_the_end(policy: Path, ending: str) -> None:
    policy.write_text(f"{HEAD}tenants:\n  bank:\n    keys:\n      - sha256:{A}\n      - sha256:{B}{ending}")
    watch = Watch(read_source(policy), _Disk(policy))
    assert invoke("revoke", f"sha256:{B[:8]}", "--policy", str(policy), "--write").exit_code == 0
    seen = [watch.look(now) for now in (0.0, 0.1)]
    assert seen == [None, read_source(policy)]
    assert policy.read_text().endswith(f"- sha256:{A}\n# a key of bank was revoked here\n")


# --- the text


FORMS = {
    "lone word": "    keys: sha256:{a}  # one\n",
    "quoted": "    keys: [\"sha256:{a}\", 'sha256:{b}']\n",
    "brackets over lines": "    keys: [\n      sha256:{a},  # one, of two\n      sha256:{b},\n    ]\n",
    "brackets with a comment last": "    keys: [sha256:{a},\n      # two\n      sha256:{b} # b\n    ]\n",
    "not indented": "    keys:\n    - sha256:{a}\n    # two\n    - sha256:{b}\n    tags: [x]\n",
    "mappings over lines": "    keys:\n      - name: a\n        digest: sha256:{a}\n\n"
    "      - digest: sha256:{b}  # b\n        name: b\n        tags:\n          - t\n",
    "a dash on its own": "    keys:\n      -\n        name: a\n        digest: sha256:{a}\n      - sha256:{b}\n",
    "empty": "    keys: []  # none yet\n",
    "one mapping": "    keys: {{name: a, digest: sha256:{a}}}\n",
    "unicode before": "    tags: [x]  # ключ 🔑\n    keys: [sha256:{a}]\n",
    "no newline at the end": "    keys:\n      - sha256:{a}",
    "a comma too many": "    keys: [sha256:{a},]\n",
}


def tenant_text(form: str) -> SourceFile:
    return SourceFile("p.yaml", f"tenants:\n  bank:\n{FORMS[form].format(a=A, b=B)}")


@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
@pytest.mark.parametrize("form", FORMS)
def test_however_keys_are_written_one_can_be_added_and_taken_out_again(form: str, line_break: str) -> None:
    file = tenant_text(form)
    file = SourceFile(file.path, file.text.replace("\n", line_break))
    held = read_document((file,), {}).root["tenants"]["bank"]["keys"]
    item = item_of(C, "new", (), {})
    edited, line = with_key(file, "bank", item)
    assert f"sha256:{C}" in edited.text.splitlines()[line - 1]
    for comment in re.findall(r"#.*", file.text):
        assert comment in edited.text
    back = without_key(edited, "bank", len(held))
    assert read_document((back,), {}).root == read_document((file,), {}).root
    for index in range(len(held)):
        fewer = without_key(file, "bank", index)
        assert f"sha256:{(A, B)[index]}" not in fewer.text
        assert read_document((fewer,), {}).root["tenants"]["bank"]["keys"] == held[:index] + held[index + 1 :]


def test_what_is_written_in_some_other_way_is_refused_and_not_mangled() -> None:
    lone = SourceFile("p.yaml", f"tenants:\n  bank:\n    keys:\n      name: a\n      digest: sha256:{A}\n")
    with pytest.raises(NotEditable, match=r"p\.yaml: the keys of `bank` are written in a way"):
        with_key(lone, "bank", f"sha256:{B}")
