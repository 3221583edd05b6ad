"""Reading the texts: one file, a folder, a ConfigMap mount, and what cannot be read."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from proxy.policy.problem import PolicyError, Problem
from proxy.policy.source import MAX_FILE_BYTES, read_signs, read_source


def refusal(path: Path) -> Problem:
    with pytest.raises(PolicyError) as refused:
        read_source(path)
    (problem,) = refused.value.problems
    return problem


def test_the_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(b"version: 1\n")
    source = read_source(path)
    assert [file.text for file in source.files] == ["version: 1\n"]
    assert source.digest == hashlib.sha256(b"version: 1\n").hexdigest()


def test_a_folder_gives_its_yaml_files_by_name_and_no_others(tmp_path: Path) -> None:
    for name in ("20-b.yaml", "10-a.yml", ".hidden.yaml", "a.test.yaml", "notes.md"):
        (tmp_path / name).write_text(name)
    (tmp_path / "folder.yaml").mkdir()
    assert [file.text for file in read_source(tmp_path).files] == ["10-a.yml", "20-b.yaml"]


def test_the_digest_of_a_folder_is_reproducible_with_coreutils(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("version: 1\n")
    (tmp_path / "b.yaml").write_text("auth: none\n")
    digest = read_source(tmp_path).digest
    ran = subprocess.run(
        "sha256sum *.yaml | sha256sum", shell=True, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split()[0] == digest


def test_the_digest_changes_with_a_files_name(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("version: 1\n")
    before = read_source(tmp_path).digest
    path.rename(tmp_path / "b.yaml")
    assert read_source(tmp_path).digest != before


def test_a_configmap_mount_is_read_through_its_links_once(tmp_path: Path) -> None:
    dated = tmp_path / "..2026_11_22_12_00_00.1"
    dated.mkdir()
    (dated / "policy.yaml").write_text("version: 1\n")
    (tmp_path / "..data").symlink_to(dated.name)
    (tmp_path / "policy.yaml").symlink_to("..data/policy.yaml")
    assert [file.path for file in read_source(tmp_path).files] == [str(tmp_path / "policy.yaml")]


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(b"\xef\xbb\xbfversion: 1\n")
    assert read_source(path).files[0].text == "version: 1\n"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    problem = refusal(tmp_path / "absent.yaml")
    assert problem.message == "cannot be read: no such file or directory"
    assert str(problem).startswith(f"{tmp_path / 'absent.yaml'}: ")


def test_a_dangling_link_in_a_folder_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").symlink_to("gone")
    assert refusal(tmp_path).path == str(tmp_path / "policy.yaml")


def test_signs_change_with_content_with_identity_and_with_the_file_being_gone(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\n")
    (first,) = read_signs(path)
    path.write_text("version: 1\nauth: none\n")
    (written,) = read_signs(path)
    assert written.identity == first.identity
    assert written.state != first.state
    (tmp_path / "new").write_text("version: 1\nauth: none\n")
    (tmp_path / "new").rename(path)
    (renamed,) = read_signs(path)
    assert renamed.identity != written.identity
    path.unlink()
    (gone,) = read_signs(path)
    assert (gone.path, gone.identity, gone.state) == (str(path), (), ())


def test_signs_of_a_configmap_mount_change_with_its_link(tmp_path: Path) -> None:
    for dated in ("..1", "..2"):
        (tmp_path / dated).mkdir()
        (tmp_path / dated / "policy.yaml").write_text("version: 1\n")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "policy.yaml").symlink_to("..data/policy.yaml")
    (first,) = read_signs(tmp_path)
    (tmp_path / "..tmp").symlink_to("..2")
    (tmp_path / "..tmp").rename(tmp_path / "..data")
    (second,) = read_signs(tmp_path)
    assert first.path == second.path
    assert first.identity != second.identity


def test_signs_of_a_folder_follow_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("x")
    (tmp_path / "a.yaml").write_text("x")
    (tmp_path / "a.test.yaml").write_text("x")
    assert [sign.path for sign in read_signs(tmp_path)] == [str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")]


def test_an_empty_folder_is_a_mistake(tmp_path: Path) -> None:
    assert refusal(tmp_path).message == "folder has no policy files"


def test_text_that_is_not_utf8_is_placed(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(b"version: 1\nauth: \xff\n")
    problem = refusal(path)
    assert (problem.line, problem.column, problem.hint) == (2, 7, "save it as utf-8")


def test_a_file_that_is_no_policy_by_its_size_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    assert refusal(path).message == "file is larger than 8 MiB"


def test_lines_are_counted_as_yaml_counts_them(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_bytes("a: 1\rb: \u00e4 \u2028c\r\nd: é".encode() + b"\xff")
    with pytest.raises(PolicyError) as refused:
        read_source(tmp_path / "policy.yaml")
    (problem,) = refused.value.problems
    assert (problem.line, problem.column) == (4, 5)
