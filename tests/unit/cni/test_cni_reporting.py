"""What the agent sends to controllers, and what it does when nobody takes it."""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ovsnet.cni import tracked
from ovsnet.cni.exchange import Exchange, ExchangeError
from ovsnet.cni.reporter import Reporter
from ovsnet.cni.respondent import Respondent
from ovsnet.cni.stampwatch import Stamp
from ovsnet.cni.tracked import Tracked, TrackedError

FIRST, SECOND = Stamp(0xAB, 1), Stamp(0xCD, 2)
NEVER = 3600.0


def document(stamp):
    return {"node": "node-1", "digest": f"{stamp.digest:016x}", "serial": stamp.serial}


class Channel:
    """Takes what is posted, or fails as the test says; serves what the test puts in `served`."""

    def __init__(self):
        self.posted = queue.SimpleQueue()
        self.served = queue.SimpleQueue()
        self.wrong = None
        self.hold = threading.Event()
        self.hold.set()
        self.ended = threading.Event()

    def post(self, path, sent):
        self.posted.put((path, sent))
        self.hold.wait(20)
        if self.wrong:
            raise ExchangeError(self.wrong)

    def get(self, path):
        self.posted.put((path, None))
        while not self.ended.is_set():
            try:
                found = self.served.get(timeout=0.01)
            except queue.Empty:
                continue
            if isinstance(found, Exception):
                raise found
            return found
        raise ExchangeError("ended")

    def end(self):
        self.ended.set()

    def next(self):
        return self.posted.get(timeout=20)

    def nothing(self, seconds=0.1):
        with pytest.raises(queue.Empty):
            self.posted.get(timeout=seconds)


@pytest.fixture
def channel():
    return Channel()


def reporter(channel, repeat=NEVER, failed_again=NEVER):
    found = Reporter("node-1", "http://c", channel, repeat=repeat, failed_again=failed_again)
    found.start()
    return found


def test_each_new_stamp_is_reported_once_and_at_once(channel):
    found = reporter(channel)
    channel.nothing()
    for stamp in (FIRST, SECOND):
        found.settled(stamp)
        assert channel.next() == ("/settled", document(stamp))
    found.settled(SECOND)
    channel.nothing()
    found.stop()


def test_the_last_report_is_repeated(channel):
    found = reporter(channel, repeat=0.02)
    found.settled(FIRST)
    assert [channel.next()[1] for _ in range(3)] == [document(FIRST)] * 3
    found.settled(SECOND)
    found.stop()


def test_a_controller_that_was_away_gets_the_report_when_it_is_back(channel, caplog):
    channel.wrong = "cannot be reached: connection refused"
    found = reporter(channel, failed_again=0.02)
    found.settled(FIRST)
    for _ in range(3):
        channel.next()
    channel.wrong = None
    while channel.next()[1] != document(FIRST):
        pass
    found.stop()
    assert caplog.text.count("controller takes no report") == 1, "said once"


def test_a_new_stamp_is_not_held_up_by_a_report_that_failed(channel):
    channel.wrong = "answers 403"
    found = reporter(channel)
    found.settled(FIRST)
    assert channel.next()[1] == document(FIRST)
    found.settled(SECOND)
    assert channel.next()[1] == document(SECOND)
    found.stop()


def test_of_the_stamps_that_come_while_a_report_is_on_its_way_the_newest_is_reported(channel):
    channel.hold.clear()
    found = reporter(channel)
    found.settled(FIRST)
    channel.next()
    for serial in range(2, 9):
        found.settled(Stamp(0xAB, serial))
    channel.hold.set()
    assert channel.next()[1] == document(Stamp(0xAB, 8))
    channel.nothing()
    found.stop()


def test_a_switch_that_is_gone_has_nothing_to_repeat(channel):
    found = reporter(channel, repeat=0.02)
    found.settled(FIRST)
    channel.next()
    found.settled(None)
    time.sleep(0.05)
    while not channel.posted.empty():
        channel.posted.get()
    channel.nothing()
    found.settled(FIRST)
    assert channel.next()[1] == document(FIRST)
    found.stop()


def respondent(channel, connections):
    found = Respondent("node-1", "http://c", channel, connections)
    found.start()
    return found


WEB = Tracked(6, "10.0.0.1", "10.0.0.2", 40000, 80)


def test_a_question_is_waited_for_and_answered(channel):
    found = respondent(channel, lambda: [WEB])
    assert channel.next() == ("/requests?node=node-1", None)
    channel.served.put(None)
    assert channel.next() == ("/requests?node=node-1", None)
    channel.served.put({"question": 7, "want": "connections"})
    assert channel.next() == (
        "/connections",
        {"node": "node-1", "question": 7, "connections": [WEB], "cut": False},
    )
    assert channel.next() == ("/requests?node=node-1", None)
    found.stop()


def test_more_connections_than_can_be_told_are_cut_and_said_to_be(channel, monkeypatch):
    monkeypatch.setattr("ovsnet.cni.respondent.MOST", 3)
    channel.served.put({"question": 7, "want": "connections"})
    found = respondent(channel, lambda: [WEB] * 5)
    channel.next()
    told = channel.next()[1]
    assert (len(told["connections"]), told["cut"]) == (3, True)
    found.stop()


def test_connections_that_cannot_be_told_and_questions_of_later_controllers(channel):
    def unable():
        raise TrackedError("ovs-vswitchd does not run")

    for want, words in (
        ("connections", "ovs-vswitchd does not run"),
        ("weather", "its agent does not know what 'weather' is"),
    ):
        channel.served.put({"question": 7, "want": want})
        found = respondent(channel, unable)
        channel.next()
        assert channel.next()[1] == {"node": "node-1", "question": 7, "error": words}
        found.stop()
        channel = Channel()


def test_an_answer_that_goes_wrong_is_not_the_last_one(channel, monkeypatch, caplog):
    monkeypatch.setattr("ovsnet.cni.respondent._AGAIN", 0.01)
    channel.served.put({"no": "question"})
    channel.served.put(ExchangeError("cannot be reached"))
    channel.served.put({"question": 8, "want": "connections"})
    found = respondent(channel, list)
    assert [channel.next()[0] for _ in range(4)][-1] == "/connections"
    found.stop()
    assert "a question was not answered" in caplog.text


DUMP = """\
icmpv6,orig=(src=fd00::1,dst=fd00::2,id=28221,type=128,code=0),reply=(src=fd00::2,dst=fd00::1,id=28221,type=129,code=0),zone=65520
tcp,orig=(src=10.9.0.1,dst=10.9.0.2,sport=38674,dport=80),reply=(src=10.9.0.2,dst=10.9.0.1,sport=80,dport=38674),zone=65520,protoinfo=(state=ESTABLISHED)
udp,orig=(src=fd00::1,dst=fd00::2,sport=51381,dport=53),reply=(src=fd00::2,dst=fd00::1,sport=53,dport=51381),zone=65520,mark=1,labels=0x2
icmp,orig=(src=10.9.0.1,dst=10.9.0.2,id=28220,type=8,code=0),reply=(src=10.9.0.2,dst=10.9.0.1,id=28220,type=0,code=0),zone=65520
sctp,orig=(src=10.9.0.1,dst=10.9.0.2,sport=5,dport=6),reply=(src=10.9.0.2,dst=10.9.0.1,sport=6,dport=5),zone=65520
47,orig=(src=10.9.0.1,dst=10.9.0.2),reply=(src=10.9.0.2,dst=10.9.0.1),zone=65520
"""


def test_connections_as_open_vswitch_prints_them():
    assert list(tracked.parse(DUMP.splitlines())) == [
        (58, "fd00::1", "fd00::2", 0, 0),
        (6, "10.9.0.1", "10.9.0.2", 38674, 80),
        (17, "fd00::1", "fd00::2", 51381, 53),
        (1, "10.9.0.1", "10.9.0.2", 0, 0),
        (132, "10.9.0.1", "10.9.0.2", 5, 6),
        (47, "10.9.0.1", "10.9.0.2", 0, 0),
    ]


@pytest.mark.parametrize(
    "line", ["", "tcp", "tcp,orig=()", "tcp,orig=(src=10.0.0.1)", "other,orig=(src=a,dst=b)"]
)
def test_lines_that_are_no_connection(line):
    assert list(tracked.parse([line])) == []


@pytest.mark.parametrize(
    ("state", "live"),
    [
        *((state, True) for state in ("SYN_SENT", "ESTABLISHED", "FIN_WAIT_2", "CLOSE_WAIT")),
        *((state, False) for state in ("TIME_WAIT", "CLOSED")),
    ],
)
def test_connections_that_are_over_are_not_told(state, live):
    line = next(line for line in DUMP.splitlines() if "ESTABLISHED" in line)
    assert bool(list(tracked.parse([line.replace("ESTABLISHED", state)]))) is live


class Commands:
    def __init__(self, number="2\n", datapath="netdev@ovs-netdev"):
        self.number = number
        self.datapath = datapath
        self.asked = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ask(self, command, *arguments):
        self.asked.append((command, *arguments))
        return {
            "upcall/show": f"{self.datapath}:\n  flows\n",
            "dpctl/ct-get-nconns": self.number,
        }.get(command, DUMP)


def test_the_connections_of_the_datapath_that_is_in_use(monkeypatch, tmp_path):
    commands = Commands()
    monkeypatch.setattr(tracked, "Control", lambda *_: commands)
    assert len(tracked.connections(tmp_path)) == 6
    assert commands.asked[-1] == ("dpctl/dump-conntrack", "netdev@ovs-netdev", "zone=65520")


def test_too_many_connections_are_not_asked_for(monkeypatch, tmp_path):
    commands = Commands("30001\n")
    monkeypatch.setattr(tracked, "Control", lambda *_: commands)
    with pytest.raises(TrackedError, match="tracks 30001 connections"):
        tracked.connections(tmp_path)
    assert "dpctl/dump-conntrack" not in {command for command, *_ in commands.asked}


def test_the_kernel_itself_tells_how_many_it_tracks(monkeypatch, tmp_path):
    """ovs-vswitchd does not: it is not asked."""
    commands = Commands(datapath="system@ovs-system")
    count = tmp_path / "nf_conntrack_count"
    monkeypatch.setattr(tracked, "Control", lambda *_: commands)
    monkeypatch.setattr(tracked, "_KERNEL_COUNT", count)
    assert len(tracked.connections(tmp_path)) == 6
    assert commands.asked == [
        ("upcall/show",),
        ("dpctl/dump-conntrack", "system@ovs-system", "zone=65520"),
    ]
    count.write_text("400000\n")
    assert len(tracked.connections(tmp_path)) == 6
    count.write_text("400001\n")
    with pytest.raises(TrackedError, match="tracks 400001 connections"):
        tracked.connections(tmp_path)


def test_no_daemon_to_ask(tmp_path):
    with pytest.raises(TrackedError, match="does not run"):
        tracked.connections(tmp_path)


class Controller:
    """A controller over HTTP that answers as the test says."""

    def __init__(self):
        outer = self
        self.asked = []
        self.answer = (204, b"")
        self.hold = threading.Event()
        self.hold.set()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.asked.append((self.client_address, self.path, body))
                outer.hold.wait(20)
                status, text = outer.answer
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST  # noqa: N815  the base class's name

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        # Agents that hang up are what some of the tests are about.
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.hold.set()
        self.server.shutdown()
        self.server.server_close()


def test_requests_use_one_connection():
    with Controller() as controller:
        exchange = Exchange(controller.url + "/base/")
        exchange.post("/settled", {"node": "node-1"})
        assert exchange.get("/requests?node=node-1") is None
        controller.answer = 200, b'{"question": 1}'
        assert exchange.get("/requests?node=node-1") == {"question": 1}
        exchange.end()
    assert [path for _, path, _ in controller.asked] == [
        "/base/settled", *["/base/requests?node=node-1"] * 2
    ]  # fmt: skip
    assert len({address for address, _, _ in controller.asked}) == 1
    assert json.loads(controller.asked[0][2]) == {"node": "node-1"}


def test_a_refusal_with_the_controllers_words():
    with Controller() as controller:
        controller.answer = 403, b'{"error": "a stranger"}\n'
        with pytest.raises(ExchangeError, match=r'answers 403: \{"error": "a stranger"\}'):
            Exchange(controller.url).post("/settled", {})
        controller.answer = 200, b"<html>"
        with pytest.raises(ExchangeError, match="no JSON"):
            Exchange(controller.url).get("/requests")


def test_a_connection_that_was_closed_meanwhile_is_replaced_once():
    with Controller() as controller:
        exchange = Exchange(controller.url)
        exchange.post("/settled", {})
        sock = exchange._connection.sock
        assert sock is not None
        sock.shutdown(socket.SHUT_RDWR)
        exchange.post("/settled", {})
        assert len({address for address, _, _ in controller.asked}) == 2


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    exchange = Exchange(f"http://127.0.0.1:{port}")
    for _ in range(2):
        with pytest.raises(ExchangeError, match=r"cannot be reached: .*refused"):
            exchange.post("/settled", {})


def test_a_controller_that_does_not_answer_in_time():
    with Controller() as controller:
        controller.hold.clear()
        with pytest.raises(ExchangeError, match="timed out"):
            Exchange(controller.url, 0.05).post("/settled", {})
        assert len(controller.asked) == 1, "not sent again"


def test_whoever_waits_for_an_answer_is_ended_from_another_thread():
    with Controller() as controller:
        controller.hold.clear()
        exchange = Exchange(controller.url, 30)
        threading.Timer(0.1, exchange.end).start()
        with pytest.raises(ExchangeError):
            exchange.get("/requests")
        with pytest.raises(ExchangeError, match="stopping"):
            exchange.get("/requests")
