"""ovs-vswitchd's control socket, and what its threads are seen to do."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import threading
from pathlib import Path

import pytest

from ovsnet.cni.control import Control, ControlError, RefusedError, datapaths, dial
from ovsnet.cni.threads import Sleep, Threads, sleeping


class Daemon:
    """Answers requests on a control socket as `answers` say: what a command prints, or an error."""

    def __init__(self, rundir, name="ovs-vswitchd.7.ctl", piece=1 << 20):
        self.requests = []
        self.answers = {}
        self._piece = piece
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(rundir / name))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # A thread that waits in accept would keep it listening.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self):
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        decoder, buffer = json.JSONDecoder(), ""
        with connection:
            while data := connection.recv(1 << 16).decode():
                buffer += data
                with contextlib.suppress(ValueError):
                    while buffer:
                        request, end = decoder.raw_decode(buffer)
                        buffer = buffer[end:]
                        if not self._answer(connection, request):
                            return

    def _answer(self, connection, request):
        self.requests.append((request["method"], *request["params"]))
        answer = self.answers.get(request["method"])
        if answer is None:
            return False
        if answer == "never":
            return True
        error = answer.strip() if isinstance(answer, bytes) else None
        reply = {
            "id": request["id"],
            "result": None if error else answer,
            "error": error.decode() if error else None,
        }
        body = json.dumps(reply).encode()
        for at in range(0, len(body), self._piece):
            connection.sendall(body[at : at + self._piece])
        return True


def test_commands_one_by_one_and_many_at_once(tmp_path):
    with Daemon(tmp_path) as daemon, Control(tmp_path) as control:
        daemon.answers = {"version": "3.1.0\n", "dpctl/dump-conntrack": "tcp,…\n"}
        assert control.ask("version") == "3.1.0\n"
        assert control.ask("dpctl/dump-conntrack", "netdev@ovs-netdev", "zone=5") == "tcp,…\n"
        assert control.ask_all([("version",)] * 30) == ["3.1.0\n"] * 30
    assert daemon.requests[1] == ("dpctl/dump-conntrack", "netdev@ovs-netdev", "zone=5")


@pytest.mark.parametrize("piece", [1, 7, 4096])
def test_a_long_answer_in_pieces_with_braces_in_it(tmp_path, piece):
    text = 'a {"b": "}"} \\ ü\n' * (3 if piece == 1 else 3000)
    with Daemon(tmp_path, piece=piece) as daemon, Control(tmp_path) as control:
        daemon.answers = {"version": text}
        assert control.ask("version") == text
        assert control.ask("version") == text


def test_a_command_that_is_refused_and_the_next_one(tmp_path):
    with Daemon(tmp_path) as daemon, Control(tmp_path) as control:
        daemon.answers = {"revalidator/wait": b"can't wait on multiple udpifs.\n", "version": "3"}
        with pytest.raises(ControlError, match=r"refuses revalidator/wait: can't wait on multiple"):
            control.ask("revalidator/wait")
        assert control.ask("version") == "3"


def test_of_many_commands_each_is_carried_out_or_refused(tmp_path):
    with Daemon(tmp_path) as daemon, Control(tmp_path) as control:
        daemon.answers = {"good": "yes", "bad": b"failed (No such file or directory)\n"}
        first, second, third = control.ask_each([("good",), ("bad", "argument"), ("good",)])
        assert (first, third) == ("yes", "yes")
        assert isinstance(second, RefusedError)
        assert second.reason == "failed (No such file or directory)"
        with pytest.raises(RefusedError, match="refuses bad: failed"):
            control.ask_all([("good",), ("bad",), ("good",)])
        assert control.ask("good") == "yes"
        assert control.ask_each([]) == []


def test_commands_of_which_neither_side_can_hold_all_the_answers(tmp_path):
    """A daemon that answers before it reads on, as ovs-vswitchd does."""
    with Daemon(tmp_path) as daemon, Control(tmp_path) as control:
        daemon.answers = {"dpctl/flush-conntrack": "x" * 100}
        commands = [("dpctl/flush-conntrack", "y" * 150)] * 5000
        assert control.ask_each(commands) == ["x" * 100] * 5000
    assert len(daemon.requests) == 5000


def test_a_daemon_that_hangs_up(tmp_path):
    with Daemon(tmp_path), Control(tmp_path) as control, pytest.raises(ControlError, match="hung"):
        control.ask("exit")


def test_a_daemon_that_does_not_answer(tmp_path):
    with Daemon(tmp_path) as daemon, Control(tmp_path, timeout=0.05) as control:
        daemon.answers = {"version": "never"}
        with pytest.raises(ControlError, match=r"did not answer version within 0\.05 s"):
            control.ask("version")


def test_no_daemon(tmp_path):
    assert dial(tmp_path) is None
    with pytest.raises(ControlError, match="does not run"):
        Control(tmp_path)


def test_the_socket_of_a_daemon_that_was_killed_is_passed_over(tmp_path):
    with Daemon(tmp_path, "ovs-vswitchd.1.ctl"):
        pass
    with pytest.raises(ControlError):
        Control(tmp_path)
    with Daemon(tmp_path, "ovs-vswitchd.2.ctl") as daemon, Control(tmp_path) as control:
        daemon.answers = {"version": "3"}
        assert control.ask("version") == "3"


def test_the_daemons_process_id(tmp_path):
    with Daemon(tmp_path), Control(tmp_path) as control:
        assert control.pid == os.getpid()


def test_datapaths_in_use():
    shown = (
        "netdev@ovs-netdev:\n  flows : (current 1)\n\n  5: (keys 1)\n\nsystem@ovs-system:\n  f\n"
    )
    assert datapaths(shown) == ["netdev@ovs-netdev", "system@ovs-system"]
    assert datapaths("") == []


RESTS = "7 0x7f58 0x4 0x1f4 0x33 0x0 0x7f58 0x7ffe 0x7fa0\n"
PUTS_OFF = RESTS.replace("0x4 0x1f4", "0x3 0x4")
AT_A_BARRIER = RESTS.replace("0x4 0x1f4", "0x2 0x7fffffff")
FUTEX = "202 0x7f5f 0x189 0x0 0x7f5f 0x0 0xffffffff 0x7f5f 0x7f5f\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (RESTS, Sleep(4)),
        (PUTS_OFF, Sleep(3)),
        (AT_A_BARRIER, Sleep(2)),
        (FUTEX, None),
        ("running\n", None),
        ("-1 0x7ffe 0x7f5f\n", None),
        ("", None),
        ("70 0x7f58 0x4 0x1f4 0x33 0x0 0x7f58 0x7ffe 0x7fa0\n", None),
    ],
)
def test_what_a_thread_sleeps_in(text, found):
    assert sleeping(text, 7) == found


class Process:
    """A process in a directory like /proc."""

    def __init__(self, proc):
        self.proc = proc
        (proc / "7" / "task").mkdir(parents=True)
        self.threads = Threads(proc, 7, "x86_64")

    def thread(self, number, name, syscall):
        task = self.proc / "7" / "task" / str(number)
        task.mkdir(exist_ok=True)
        (task / "comm").write_text(name + "\n")
        (task / "syscall").write_text(syscall)
        return task


@pytest.fixture
def process(tmp_path):
    return Process(tmp_path)


def test_the_leader_of_several_revalidators_rests(process):
    process.thread(8, "ovs-vswitchd", RESTS)
    process.thread(9, "revalidator5", AT_A_BARRIER)
    process.thread(10, "revalidator4", "running\n")
    assert not process.threads.leader_rests()
    process.thread(10, "revalidator4", PUTS_OFF)
    assert not process.threads.leader_rests()
    process.thread(10, "revalidator4", RESTS)
    assert process.threads.leader_rests()


def test_threads_that_are_started_anew_are_found(process):
    old = process.thread(9, "revalidator5", RESTS)
    assert process.threads.leader_rests()
    for file in old.iterdir():
        file.unlink()
    old.rmdir()
    assert not process.threads.leader_rests()
    process.thread(12, "revalidator9", RESTS)
    assert process.threads.leader_rests()


def test_a_thread_that_ends_while_it_is_looked_at_does_not_rest(process):
    (process.thread(9, "revalidator5", RESTS) / "syscall").unlink()
    assert not process.threads.leader_rests()
    assert not process.threads.visible


def test_handlers_that_have_packets_in_hand(process):
    process.thread(9, "handler5", AT_A_BARRIER)
    busy = process.thread(10, "handler6", "running\n")
    process.thread(11, "revalidator7", "running\n")
    assert process.threads.busy_handlers() == {busy}


def test_threads_that_forward_without_a_pause(process):
    assert not process.threads.polls_ports
    process.thread(9, "pmd-c01/id:8", "running\n")
    assert process.threads.polls_ports


def test_threads_that_cannot_be_seen(process):
    assert not process.threads.visible, "no revalidator"
    process.thread(9, "revalidator5", "running\n")
    assert process.threads.visible
    assert not Threads(process.proc, 7, "unheard-of").visible
    assert not Threads(process.proc, 8, "x86_64").visible
    assert not Threads(process.proc, 0, "x86_64").visible


def test_a_real_thread_that_sleeps_in_poll_is_seen_to():
    """The numbers are this machine's, and this kernel tells them."""
    ends = os.pipe()
    poll = select.poll()
    for descriptor in ends:
        poll.register(descriptor, 0)
    threads = Threads(Path("/proc"), os.getpid())
    own: list[int] = []
    asleep = threading.Event()

    def sleep():
        own.append(threading.get_native_id())
        asleep.set()
        poll.poll(500)

    thread = threading.Thread(target=sleep)
    thread.start()
    assert asleep.wait(20)
    seen = set()
    while thread.is_alive():
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{os.getpid()}/task/{own[0]}/syscall").read_text()
            seen.add(sleeping(text, threads.poll))
    thread.join()
    for descriptor in ends:
        os.close(descriptor)
    assert Sleep(2) in seen
