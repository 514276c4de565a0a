"""Processes that these tests start themselves, below a directory of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ovsnet.sandbox import process
from ovsnet.sandbox.layout import Layout
from ovsnet.sandbox.process import ProcessError, Spec

SLEEP = ("sleep", "1000")


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    found = Layout(tmp_path / "sandbox", "ovsnet.unused")
    yield found
    process.end_all(found.root)


def until(condition: object) -> None:
    deadline = time.monotonic() + 10
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_process_from_start_to_end(layout: Layout) -> None:
    record = process.start(layout, Spec("sleeper", SLEEP))
    assert process.alive(record)
    assert process.records(layout) == {"sleeper": record}
    assert process.end(record)
    assert not process.alive(record)
    assert not process.end(record)
    again = process.restart(layout, "sleeper")
    assert again.pid != record.pid or again.start_time != record.start_time
    assert process.alive(again)


def test_what_it_prints_is_in_its_log_and_its_environment_is_as_asked(layout: Layout) -> None:
    command = ("sh", "-c", "echo $COLOUR; echo oops >&2")
    record = process.start(layout, Spec("speaker", command, environment={"COLOUR": "blue"}))
    until(lambda: not process.alive(record))
    assert process.log_path(layout, "speaker").read_text() == "blue\noops\n"


def test_one_that_runs_is_not_started_twice(layout: Layout) -> None:
    process.start(layout, Spec("sleeper", SLEEP))
    with pytest.raises(ProcessError, match="running already"):
        process.restart(layout, "sleeper")


def test_a_program_that_does_not_exist(layout: Layout) -> None:
    with pytest.raises(ProcessError, match=r"cannot start ghost.*no-such-program"):
        process.start(layout, Spec("ghost", ("no-such-program",)))
    assert process.records(layout) == {}


def test_a_name_that_is_not_known(layout: Layout) -> None:
    process.start(layout, Spec("sleeper", SLEEP))
    with pytest.raises(ProcessError, match="no process 'x'; it has: sleeper"):
        process.known(layout, "x")


def test_a_pid_that_belongs_to_somebody_else_now_is_left_alone(layout: Layout) -> None:
    record = process.start(layout, Spec("sleeper", SLEEP))
    stranger = msgspec.structs.replace(record, start_time=record.start_time - 1)
    assert not process.alive(stranger)
    assert not process.end(stranger)
    assert process.alive(record)


def test_an_end_that_does_not_come(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_KILL_SECONDS", 0.1)
    command = (sys.executable, "-IS", "-c",
               "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True);"
               "time.sleep(99)")  # fmt: skip
    record = process.start(layout, Spec("stubborn", command))
    until(lambda: process.log_path(layout, "stubborn").read_text())
    with pytest.raises(TimeoutError, match="did not end on SIGTERM"):
        process.end(record, signal.SIGTERM)
    assert process.end(record)


def test_everything_marked_is_found_children_and_orphans_and_the_never_recorded(
    layout: Layout,
) -> None:
    process.start(layout, Spec("parent", ("sh", "-c", "sleep 1000 & sleep 1000")))
    process.start(layout, Spec("orphan", ("sh", "-c", "setsid sleep 1000 & exit")))
    until(lambda: len(process.marked(layout.root)) == 4)
    for path in layout.processes.iterdir():
        path.unlink()
    assert process.end_all(layout.root) == 4
    assert process.marked(layout.root) == ()
    assert process.end_all(layout.root) == 0


def test_processes_of_another_sandbox_and_of_nobody_are_left_alone(
    layout: Layout, tmp_path: Path
) -> None:
    other = Layout(tmp_path / "sandbox2", "ovsnet.unused2")
    theirs = process.start(other, Spec("sleeper", SLEEP))
    unmarked = subprocess.Popen(SLEEP)
    try:
        process.start(layout, Spec("sleeper", SLEEP))
        assert process.end_all(layout.root) == 1
        assert process.alive(theirs)
        assert unmarked.poll() is None
    finally:
        unmarked.kill()
        unmarked.wait()
        process.end_all(other.root)


def test_whoever_takes_the_sandbox_down_from_inside_it_survives(layout: Layout) -> None:
    program = (
        "from pathlib import Path; from ovsnet.sandbox import process;"
        f"print(process.end_all(Path({str(layout.root)!r})))"
    )
    process.start(layout, Spec("sleeper", SLEEP))
    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -c "$PROGRAM"; echo shell lives'],
        env={**os.environ, process.MARK: str(layout.root), "PROGRAM": program},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\nshell lives\n"
