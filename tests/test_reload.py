"""What becomes of a text that has settled: adopted, refused or restored, once each, on the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from proxy.policy.problem import PolicyError, Problem
from proxy.policy.source import Source, read_source
from proxy.policy.watch import Unfit, Watch
from proxy.reload import Folder, Ready, Reload, Restored

SERVED, OTHER, BAD = "version: 1\n# served\n", "version: 1\n# other\n", "version: 1\n# bad\n"
LOOKS_S = 0.001


class Follow:
    """A follower that keeps what it is told, and in which thread."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[object] = asyncio.Queue()
        self.threads: set[int] = set()

    def _note(self, news: object) -> None:
        self.threads.add(threading.get_ident())
        self.told.put_nowait(news)

    def adopt(self, prepared: str) -> None:
        self._note(prepared)

    def refuse(self, refused: Unfit) -> None:
        self._note(refused)

    def restore(self) -> None:
        self._note(Restored())


def text_of(source: Source) -> str:
    """A compiler that finds one word to be wrong."""
    (file,) = source.files
    if "bad" in file.text:
        raise PolicyError((Problem(file.path, 2, 3, "it is bad"),))
    return file.text


def replace(path: Path, text: str) -> None:
    """As `mv` and a ConfigMap do it: whole from the first moment."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.rename(path)


class Stepped:
    """A reload whose steps are taken by hand, a second apart."""

    def __init__(self, folder: Path, prepare: Callable[[Source], str] = text_of) -> None:
        self.path = folder / "policy.yaml"
        self.path.write_text(SERVED)
        self._now = 0.0
        watch = Watch(read_source(self.path), Folder(self.path))
        self.reload = Reload(watch, prepare, Follow(), clock=self._clock)

    def _clock(self) -> float:
        self._now += 1.0
        return self._now

    def news(self, steps: int = 10) -> list[object]:
        return [news for news in (self.reload.step() for _ in range(steps)) if news is not None]


def test_a_text_that_compiles_is_ready(tmp_path: Path) -> None:
    stepped = Stepped(tmp_path)
    assert stepped.news() == []
    replace(stepped.path, OTHER)
    assert stepped.news() == [Ready(OTHER)]


def test_a_text_that_does_not_is_refused_once_with_its_place(tmp_path: Path) -> None:
    stepped = Stepped(tmp_path)
    replace(stepped.path, BAD)
    digest = read_source(stepped.path).digest
    assert stepped.news() == [Unfit((Problem(str(stepped.path), 2, 3, "it is bad"),), digest[:12])]


def test_the_text_that_is_served_coming_back_is_no_new_policy(tmp_path: Path) -> None:
    stepped = Stepped(tmp_path)
    replace(stepped.path, BAD)
    stepped.news()
    replace(stepped.path, SERVED)
    assert stepped.news() == [Restored()]


def test_what_is_served_is_what_was_adopted_last(tmp_path: Path) -> None:
    stepped = Stepped(tmp_path)
    replace(stepped.path, OTHER)
    stepped.news()
    replace(stepped.path, BAD)
    stepped.news()
    replace(stepped.path, OTHER)
    assert stepped.news() == [Restored()]
    replace(stepped.path, SERVED)
    assert stepped.news() == [Ready(SERVED)]


def test_a_text_that_the_compiler_chokes_on_is_refused_like_any_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def choke(source: Source) -> str:
        raise RecursionError(source.path)

    stepped = Stepped(tmp_path, choke)
    replace(stepped.path, OTHER)
    (news,) = stepped.news()
    assert isinstance(news, Unfit)
    assert news.problems[0].message == "could not be compiled: RecursionError"
    assert news.revision == read_source(stepped.path).digest[:12]
    assert "RecursionError" in caplog.text


async def test_the_loop_is_told_in_order_and_never_waits_for_a_compile(tmp_path: Path) -> None:
    compiling, go = threading.Event(), threading.Event()

    def slowly(source: Source) -> str:
        compiling.set()
        assert go.wait(10)
        return text_of(source)

    path, follow = tmp_path / "policy.yaml", Follow()
    path.write_text(SERVED)
    reload = Reload(Watch(read_source(path), Folder(path)), slowly, follow, look_s=LOOKS_S)
    reload.start()
    replace(path, OTHER)
    assert await asyncio.to_thread(compiling.wait, 10)
    replace(path, BAD)
    assert follow.told.empty()
    go.set()
    async with asyncio.timeout(10):
        assert await follow.told.get() == OTHER
        assert isinstance(await follow.told.get(), Unfit)
        replace(path, SERVED)
        assert await follow.told.get() == SERVED
    reload.stop()
    assert follow.threads == {threading.get_ident()}


async def test_once_stopped_nothing_is_told_any_more(tmp_path: Path) -> None:
    compiling, go, done = threading.Event(), threading.Event(), threading.Event()

    def slowly(source: Source) -> str:
        compiling.set()
        assert go.wait(10)
        done.set()
        return text_of(source)

    path, follow = tmp_path / "policy.yaml", Follow()
    path.write_text(SERVED)
    reload = Reload(Watch(read_source(path), Folder(path)), slowly, follow, look_s=LOOKS_S)
    reload.start()
    replace(path, OTHER)
    assert await asyncio.to_thread(compiling.wait, 10)
    reload.stop()
    go.set()
    assert await asyncio.to_thread(done.wait, 10)
    threads = [thread for thread in threading.enumerate() if thread.name == "policy-watch"]
    for thread in threads:
        await asyncio.to_thread(thread.join, 10)
    await asyncio.sleep(0)
    assert follow.told.empty()
