"""The rules of the house that a reviewer would otherwise have to remember. Imports are held by import-linter."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "proxy").rglob("*.py"))
CODE = [name for name in MODULES if not name.endswith("/__init__.py")]

MAY_CATCH_ALL = {
    "proxy/relay.py": "the outer edge of a request: whatever happens, the client is answered and the ledger charged",
    "proxy/meters/sync.py": "the supervisor of a background task: the store may fail in any way, and serving goes on",
}
TESTED_ELSEWHERE: dict[str, str] = {}
EMPTY_NAMES = {"manager", "helper", "helpers", "util", "utils", "service", "common", "misc"}


def tree(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text(encoding="utf-8"))


def functions(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of code from the first statement to the last: a long docstring is not a long function."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def names_caught(handler: ast.ExceptHandler) -> set[str]:
    if handler.type is None:
        return {"BaseException"}
    return {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}


def calls(module: ast.Module) -> Iterator[str]:
    return (ast.unparse(node.func) for node in ast.walk(module) if isinstance(node, ast.Call))


@pytest.mark.parametrize("name", MODULES)
def test_a_module_opens_by_saying_why_it_exists(name: str) -> None:
    assert ast.get_docstring(tree(name))


@pytest.mark.parametrize("name", MODULES)
def test_files_and_functions_stay_short(name: str) -> None:
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= 400
    assert [f"{f.name}: {lines(f)} lines" for f in functions(tree(name)) if lines(f) > 50] == []


@pytest.mark.parametrize("name", MODULES)
def test_no_global_state_is_rebound(name: str) -> None:
    assert [node.names for node in ast.walk(tree(name)) if isinstance(node, ast.Global)] == []


@pytest.mark.parametrize("name", [name for name in MODULES if name not in MAY_CATCH_ALL])
def test_nothing_is_caught_that_was_not_expected(name: str) -> None:
    handlers = [node for node in ast.walk(tree(name)) if isinstance(node, ast.ExceptHandler)]
    assert [h.lineno for h in handlers if names_caught(h) & {"Exception", "BaseException"}] == []


@pytest.mark.parametrize("name", MODULES)
def test_only_the_command_line_prints_and_nothing_blocks_the_loop(name: str) -> None:
    unwanted = {"time.sleep", "sleep"} if name.startswith("proxy/cli/") else {"print", "time.sleep", "sleep"}
    assert set(calls(tree(name))) & unwanted == set()


@pytest.mark.parametrize("name", CODE)
def test_a_module_is_named_for_what_it_holds(name: str) -> None:
    assert not set(Path(name).stem.split("_")) & EMPTY_NAMES


def behaves(name: str) -> bool:
    """Whether there is anything to test: a module of types, constants and one-line accessors has no behaviour."""
    return any(lines(f) > 1 for f in functions(tree(name)))


def tests_of(name: str) -> set[str]:
    """Where a module's tests may stand: by its own name, or by that of what it is a part of (`demo` for `demo_view`)."""
    inside = Path(name).relative_to("proxy")
    words = inside.stem.split("_")
    stems = {"_".join(words[:count]) for count in range(1, len(words) + 1)}
    return {f"tests/{inside.parent / f'test_{stem}.py'}" for stem in stems}


@pytest.mark.parametrize("name", [name for name in CODE if behaves(name) and name not in TESTED_ELSEWHERE])
def test_tests_mirror_the_code(name: str) -> None:
    assert [path for path in tests_of(name) if (ROOT / path).is_file()] != []


def test_the_lists_of_exceptions_name_only_files_that_exist() -> None:
    assert {*MAY_CATCH_ALL, *TESTED_ELSEWHERE} <= set(MODULES)


def imported_by(modules: list[str]) -> set[str]:
    """The top-level names that a fresh interpreter has imported once it has imported `modules`."""
    program = f"import importlib, sys\nfor name in {modules!r}:\n    importlib.import_module(name)\n"
    program += "print(*{name.partition('.')[0] for name in sys.modules})"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(ran.stdout.split())


def test_importing_every_module_never_imports_litellm() -> None:
    """It costs 2 s and 150 MB; a process that serves OpenAI-compatible upstreams only must not pay that."""
    modules = [name.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".") for name in MODULES]
    assert "litellm" not in imported_by(modules)


def test_starting_imports_nothing_slow() -> None:
    """Each of these takes longer to import than all of the proxy, which has to answer within a second of its start."""
    slow = {"litellm", "openai", "httpx", "aiohttp", "pydantic", "redis", "rich"}
    assert imported_by(["proxy.cli.command", "proxy.cli.serve", "proxy.run", "proxy.app"]) & slow == set()
