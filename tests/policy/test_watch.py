"""When a text is believed: a disk and a clock made of values, one look after another."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from proxy.policy.problem import PolicyError, Problem
from proxy.policy.source import Sign, Signs, Source, SourceFile
from proxy.policy.watch import CUT_CALM_S, REREAD_S, WRITTEN_CALM_S, Seen, Unfit, Watch

PATH = "policy.yaml"
HEAD = "version: 1\ntargets:\n  gpu: {lane: dedicated}\nmodels:\n  m: [gpu]\n"
GATES = "routes:\n  - name: eu\n    require: {region: eu-*}\n"
SERVED = HEAD + GATES
OTHER = SERVED.replace("gpu", "tpu")
LOOK_S = 0.05


class FakeDisk:
    """Files by path, each with an inode and a time that change as a file system would change them."""

    def __init__(self, **texts: str) -> None:
        self.files: dict[str, tuple[str, int]] = {}
        self.reads = 0
        self.on_read: Callable[[], None] = lambda: None
        self._writes = 0
        self._times: dict[str, int] = {}
        for name, text in (texts or {"policy": SERVED}).items():
            self.rename(text, f"{name}.yaml")

    def rename(self, text: str, path: str = PATH) -> None:
        """Another file takes the place."""
        self._writes += 1
        self.files[path] = (text, self._writes)
        self._times[path] = self._writes

    def write(self, text: str, path: str = PATH, *, same_time: bool = False) -> None:
        """The same file has another content."""
        self.files[path] = (text, self.files[path][1])
        if not same_time:
            self._writes += 1
            self._times[path] = self._writes

    def remove(self, path: str = PATH) -> None:
        del self.files[path]

    def signs(self) -> Signs:
        return tuple(
            Sign(path, (1, inode), (len(text), self._times[path])) for path, (text, inode) in sorted(self.files.items())
        )

    def read(self) -> Source:
        self.reads += 1
        if not self.files:
            raise PolicyError((Problem(PATH, 0, 0, "cannot be read: no such file or directory"),))
        source = self.source()
        self.on_read()
        return source

    def source(self) -> Source:
        files = tuple(SourceFile(path, text) for path, (text, _) in sorted(self.files.items()))
        return Source(PATH, files, hashlib.sha256(repr(files).encode()).hexdigest())


class Looking:
    """A watch that has begun, and the clock it is asked by."""

    def __init__(self, disk: FakeDisk) -> None:
        self.disk = disk
        self.now = 100.0
        self.watch = Watch(disk.source(), disk)
        assert self.look() is None

    def look(self, after_s: float = LOOK_S) -> Seen | None:
        self.now += after_s
        return self.watch.look(self.now)

    def settled_s(self, within_s: float = 10.0) -> tuple[Seen, float]:
        """What settles, and after how long."""
        since = self.now
        while self.now < since + within_s:
            seen = self.look()
            if seen is not None:
                return seen, self.now - since
        raise AssertionError("nothing settled")

    def quiet(self, for_s: float) -> bool:
        until = self.now + for_s
        while self.now < until:
            if self.look() is not None:
                return False
        return True


@pytest.fixture
def looking() -> Looking:
    return Looking(FakeDisk())


def text_of(seen: Seen) -> str:
    assert isinstance(seen, Source)
    return "".join(file.text for file in seen.files)


def test_a_renamed_file_is_believed_at_the_second_look(looking: Looking) -> None:
    looking.disk.rename(OTHER)
    assert looking.look() is None
    seen = looking.look()
    assert seen is not None
    assert text_of(seen) == OTHER
    assert looking.quiet(10)


def test_a_text_that_is_replaced_between_the_looks_is_none(looking: Looking) -> None:
    for text in (OTHER, SERVED.replace("eu", "us"), OTHER, SERVED):
        looking.disk.rename(text)
        assert looking.look() is None
    assert looking.quiet(10)


def test_nothing_is_read_while_nothing_changes_until_it_is_time_to_be_sure(looking: Looking) -> None:
    reads = looking.disk.reads
    assert looking.quiet(REREAD_S - 2 * LOOK_S)
    assert looking.disk.reads == reads
    assert looking.quiet(3 * LOOK_S)
    assert looking.disk.reads == reads + 1


def test_a_touched_file_is_no_change(looking: Looking) -> None:
    looking.disk.write(SERVED)
    assert looking.quiet(10)
    looking.disk.rename(SERVED)
    assert looking.quiet(10)


def test_two_writes_within_one_tick_of_the_files_clock_are_told_apart(looking: Looking) -> None:
    """Git's racy problem: the same inode, size and times, another content."""
    looking.disk.rename(OTHER)
    assert looking.look() is None
    looking.disk.write(OTHER.replace("tpu", "npu"), same_time=True)
    seen, _ = looking.settled_s()
    assert "npu" in text_of(seen)


def test_a_change_that_the_file_system_hides_is_found_all_the_same(looking: Looking) -> None:
    looking.disk.write(OTHER, same_time=True)
    seen, after_s = looking.settled_s()
    assert text_of(seen) == OTHER
    assert after_s <= REREAD_S + 3 * LOOK_S


def test_a_file_that_changes_while_it_is_read_is_not_believed(looking: Looking) -> None:
    """A folder whose link is swapped between two of its files reads as a policy that nobody wrote."""
    looking.disk.rename(OTHER)
    looking.disk.on_read = lambda: looking.disk.rename(OTHER)
    assert looking.quiet(5)
    looking.disk.on_read = lambda: None
    assert text_of(looking.settled_s()[0]) == OTHER


def test_a_file_written_in_place_has_to_be_calm_for_a_while(looking: Looking) -> None:
    looking.disk.write(OTHER)
    seen, after_s = looking.settled_s()
    assert text_of(seen) == OTHER
    assert WRITTEN_CALM_S <= after_s <= WRITTEN_CALM_S + 3 * LOOK_S


def test_a_pause_of_the_writer_is_no_end(looking: Looking) -> None:
    """It overwrites from the beginning, so that every state is half of one policy and half of the other."""
    for end in range(0, len(OTHER), 20):
        looking.disk.write(OTHER[:end] + SERVED[end:])
        assert looking.quiet(WRITTEN_CALM_S - 2 * LOOK_S)
    assert text_of(looking.settled_s()[0]) == OTHER


def test_a_rename_after_writing_in_place_is_believed_at_once_again(looking: Looking) -> None:
    looking.disk.write(OTHER + "#\n")
    assert looking.look() is None
    looking.disk.rename(OTHER)
    assert looking.settled_s()[1] <= 2.5 * LOOK_S


@pytest.mark.parametrize(
    "unfinished",
    [OTHER[:-1], OTHER[: OTHER.index("routes:")], OTHER[: OTHER.index("models:")]],
    ids=["the last line is open", "no routes", "no models"],
)
def test_a_text_that_looks_unfinished_has_to_be_calm_for_long(looking: Looking, unfinished: str) -> None:
    looking.disk.rename(unfinished)
    seen, after_s = looking.settled_s()
    assert text_of(seen) == unfinished
    assert CUT_CALM_S <= after_s <= CUT_CALM_S + 3 * LOOK_S


@pytest.mark.parametrize("end", [OTHER.index("routes:") - 1, OTHER.index("models:") + 3, OTHER.index("tpu") + 2])
def test_a_text_that_ends_within_a_line_and_lacks_a_section_is_refused_however_calm(looking: Looking, end: int) -> None:
    looking.disk.rename(OTHER[:end])
    seen, after_s = looking.settled_s()
    assert isinstance(seen, Unfit)
    (problem,) = seen.problems
    assert problem.message.startswith("the file ends within a line, without `")
    assert problem.message.endswith("`routes` of the policy that is being served")
    assert (problem.line, problem.column) == (OTHER[:end].count("\n") + 1, len(OTHER[:end].split("\n")[-1]) + 1)
    assert after_s >= CUT_CALM_S


def test_a_text_that_grows_slowly_is_never_believed_before_it_is_whole(looking: Looking) -> None:
    looking.disk.write("")
    for end in range(len(OTHER)):
        looking.disk.write(OTHER[:end])
        assert looking.quiet(0.3)
    looking.disk.write(OTHER)
    assert text_of(looking.settled_s()[0]) == OTHER


@pytest.mark.parametrize("end", [0, 1, len(HEAD) - 1, len(HEAD), len(SERVED) - 5])
def test_the_beginning_of_what_is_served_is_refused_however_calm(looking: Looking, end: int) -> None:
    looking.disk.write(SERVED[:end])
    seen, after_s = looking.settled_s()
    assert isinstance(seen, Unfit)
    (problem,) = seen.problems
    assert problem.message == "the file ends where the policy that is being served goes on"
    assert problem.line == SERVED[:end].count("\n") + 1
    assert seen.revision
    assert after_s >= CUT_CALM_S
    assert looking.quiet(10)


def test_an_end_that_was_removed_on_purpose_can_be_told(looking: Looking) -> None:
    looking.disk.rename(HEAD + "# no gates any more\n")
    assert text_of(looking.settled_s()[0]).startswith(HEAD)


@pytest.mark.parametrize("rest", ["\n", "\n\n# a comment\n", "# a comment\n   # another\n"])
def test_a_comment_less_at_the_end_is_no_cut(rest: str) -> None:
    looking = Looking(FakeDisk(policy=SERVED + rest))
    looking.disk.rename(SERVED)
    assert text_of(looking.settled_s()[0]) == SERVED


def test_what_is_the_beginning_follows_what_is_served(looking: Looking) -> None:
    looking.disk.rename(OTHER)
    seen, _ = looking.settled_s()
    assert isinstance(seen, Source)
    looking.watch.served = seen
    looking.disk.rename(HEAD.replace("gpu", "tpu"))
    assert isinstance(looking.settled_s()[0], Unfit)


def test_a_file_of_a_folder_that_is_cut_is_named() -> None:
    looking = Looking(FakeDisk(a=HEAD, b=GATES))
    looking.disk.write(GATES[:9], "b.yaml")
    seen, _ = looking.settled_s()
    assert isinstance(seen, Unfit)
    assert [problem.path for problem in seen.problems] == ["b.yaml"]


def test_a_file_that_leaves_a_folder_takes_its_gates_along_slowly() -> None:
    looking = Looking(FakeDisk(a=HEAD, b=GATES))
    looking.disk.remove("b.yaml")
    _, after_s = looking.settled_s()
    assert after_s >= CUT_CALM_S


def test_a_policy_that_is_gone_is_told_once_and_only_after_a_while(looking: Looking) -> None:
    looking.disk.remove()
    seen, after_s = looking.settled_s()
    assert isinstance(seen, Unfit)
    assert (seen.problems[0].message, seen.revision) == ("cannot be read: no such file or directory", "")
    assert after_s >= CUT_CALM_S
    assert looking.quiet(10)


def test_a_policy_that_is_gone_for_a_moment_is_none_of_anybodys_business(looking: Looking) -> None:
    looking.disk.remove()
    assert looking.quiet(1)
    looking.disk.rename(SERVED)
    assert looking.quiet(10)


def test_what_is_served_is_told_again_after_something_else_had_settled(looking: Looking) -> None:
    looking.disk.rename(OTHER)
    looking.settled_s()
    looking.disk.rename(SERVED)
    assert text_of(looking.settled_s()[0]) == SERVED


def test_a_text_that_settled_and_is_still_there_after_another_writer_is_not_told_again(looking: Looking) -> None:
    looking.disk.rename(OTHER)
    looking.settled_s()
    looking.disk.rename(SERVED)
    assert looking.look() is None
    looking.disk.rename(OTHER)
    assert looking.quiet(10)


def test_a_file_that_changed_between_its_compilation_and_the_first_look_is_found() -> None:
    disk = FakeDisk()
    watch = Watch(disk.source(), disk)
    disk.rename(OTHER)
    assert watch.look(1.0) is None
    seen = watch.look(1.05)
    assert seen is not None
    assert text_of(seen) == OTHER
