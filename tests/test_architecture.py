"""The rules of the house that a reviewer would otherwise have to remember. Imports are held by import-linter."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "proxy").rglob("*.py"))
CODE = [name for name in MODULES if not name.endswith("/__init__.py")]

MAY_CATCH_ALL = {
    "proxy/cluster/asking.py": "a thread: what goes wrong in it belongs to whoever asked",
    "proxy/api/openai.py": "the outermost edge: a bug costs one request, and its client an answer in JSON",
    "proxy/api/stream.py": "drives a coroutine by hand: what is thrown into it belongs to it",
    "proxy/meters/sync.py": "the supervisor of a background task: the store may fail in any way, and serving goes on",
    "proxy/reload.py": "the supervisor of a thread: a text that the compiler chokes on must not end reloading",
    "proxy/upstream/translated_exchange.py": "LiteLLM raises anything: here it is mapped, once",
}
EMPTY_NAMES = {"manager", "helper", "helpers", "util", "utils", "service", "common", "misc"}


@cache
def tree(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text(encoding="utf-8"))


@cache
def nodes(name: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree(name)))


def functions(name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in nodes(name) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of code from the first statement to the last: a long docstring is not a long function."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def catches_all(handler: ast.ExceptHandler) -> bool:
    """Whether the handler swallows what nobody expected; one that ends in a bare `raise` only tidies up."""
    last = handler.body[-1]
    if isinstance(last, ast.Raise) and last.exc is None:
        return False
    caught = ast.walk(handler.type) if handler.type else ()
    names = {node.id for node in caught if isinstance(node, ast.Name)}
    return not names or bool(names & {"Exception", "BaseException"})


def catch_alls(name: str) -> list[int]:
    handlers = (node for node in nodes(name) if isinstance(node, ast.ExceptHandler))
    return [handler.lineno for handler in handlers if catches_all(handler)]


def calls(name: str) -> Iterator[str]:
    return (ast.unparse(node.func) for node in nodes(name) if isinstance(node, ast.Call))


# A test for each rule, and not for each module too: thousands would take longer to report than all of them to run.


def test_a_module_opens_by_saying_why_it_exists() -> None:
    assert [name for name in MODULES if not ast.get_docstring(tree(name))] == []


def test_files_stay_short() -> None:
    lengths = {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in MODULES}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_functions_stay_short() -> None:
    lengths = {f"{name}: {f.name}": lines(f) for name in MODULES for f in functions(name)}
    assert {name: length for name, length in lengths.items() if length > 50} == {}


def test_no_global_state_is_rebound() -> None:
    assert [name for name in MODULES for node in nodes(name) if isinstance(node, ast.Global)] == []


def test_nothing_is_caught_that_was_not_expected() -> None:
    caught = {name: catch_alls(name) for name in MODULES if name not in MAY_CATCH_ALL}
    assert {name: found for name, found in caught.items() if found} == {}


def test_only_the_command_line_prints() -> None:
    assert [name for name in MODULES if not name.startswith("proxy/cli/") and "print" in calls(name)] == []


def test_nothing_blocks_the_loop() -> None:
    assert [name for name in MODULES if {"time.sleep", "sleep"} & set(calls(name))] == []


def test_a_module_is_named_for_what_it_holds() -> None:
    assert [name for name in CODE if set(Path(name).stem.split("_")) & EMPTY_NAMES] == []


def behaves(name: str) -> bool:
    """Whether there is anything to test: a module of types, constants and one-line accessors has no behaviour."""
    return any(lines(f) > 1 for f in functions(name) if f.name != "__init__")


def places_of_tests(name: str) -> set[str]:
    """Where a module's tests may stand: by its own name, or that of its whole (`demo` of `demo_view`; its package)."""
    inside = Path(name).relative_to("proxy")
    words = inside.stem.split("_")
    stems = {"_".join(words[:count]) for count in range(1, len(words) + 1)}
    whole = inside.parent.with_name(f"test_{inside.parent.name}.py") if inside.parent.name else inside
    return {f"tests/{inside.parent / f'test_{stem}.py'}" for stem in stems} | {f"tests/{whole}"}


def exists(path: str) -> bool:
    return (ROOT / path).is_file()


def test_tests_mirror_the_code() -> None:
    assert [name for name in CODE if behaves(name) and not any(map(exists, places_of_tests(name)))] == []


def test_the_exceptions_to_these_rules_are_still_needed() -> None:
    assert [name for name in MAY_CATCH_ALL if not catch_alls(name)] == []


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
    slow |= {"numpy", "scipy", "matplotlib", "pyarrow"}  # of the extra `advisor`: they may not even be installed
    slow |= {"opentelemetry", "requests"}  # nor these, of the extra `otel`
    assert imported_by(["proxy.cli.command", "proxy.cli.serve", "proxy.run", "proxy.app"]) & slow == set()
