"""A cluster that speaks TLS: how it comes to it, who gets a certificate, and what goes on while
certificates and authorities change.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from places import wait_for
from sandbox_lab import Lab
from sandbox_runs import introduce, sandbox
from secure_lab import (
    ACCOUNT,
    CONFIG_MAP,
    SECOND,
    SECOND_AGENTS,
    SECRET,
    SecureLab,
    mode,
)
from trust_authority import modes

from ovsnet.cni.credentials import new_request
from ovsnet.cni.exchange import Exchange, ExchangeError
from ovsnet.cni.identity import client_context
from ovsnet.sandbox.cluster import AGENTS_PORT, OPENFLOW_PORT
from ovsnet.sandbox.demo.continuity import PingStream
from ovsnet.sandbox.state import CONTROLLER

pytestmark = pytest.mark.timeout(300)


@contextlib.contextmanager
def nothing_lost(pods):
    """Two pods of different nodes talk for as long as this lasts."""
    stream = PingStream("a1 to a2", pods["a1"].netns, str(pods["a2"].ipv4))
    stream.start()
    try:
        yield
    finally:
        count = stream.stop()
    assert count.sent
    assert count.lost == 0, count


@pytest.fixture(scope="module")
def plain() -> Iterator[Lab]:
    with sandbox("trust", "a", 2) as made:
        yield made


@pytest.fixture(scope="module")
def pods(plain: Lab):
    made = plain.pods([("a1", "node1"), ("a2", "node2")])
    introduce(made.values())
    return made


@pytest.fixture(scope="module")
def secure(plain: Lab, pods) -> SecureLab:
    """Made secure while pods talk, none of whose packets may be lost."""
    made = SecureLab(plain)
    with nothing_lost(pods):
        made.secure()
        made.wait_until_secure()
    return made


def test_a_running_cluster_changes_to_tls(secure):
    for name in secure.lab.nodes:
        assert "ssl:" in secure.targets(name)
        assert "tcp:" not in secure.targets(name)
    secure.lab.pods([("b1", "node1")])
    secure.lab.delete_pods(["b1"])


def test_keys_and_sockets_are_roots_alone(secure):
    for name in secure.lab.nodes:
        directory = secure.lab.layout.node(name).agent
        found = modes(secure.files(name).directory)
        assert found == {".": 0o700, "node.pem": 0o600, "ca.crt": 0o600}
        assert modes(directory / "agent.sock") == {".": 0o600}
        # The rest is behind the directory itself.
        assert mode(directory) == 0o700


def test_plain_connections_are_closed_unread(secure):
    for port in (OPENFLOW_PORT, AGENTS_PORT):

        def speak(port=port) -> bytes:
            with socket.create_connection((str(secure.control), port)) as sock:
                sock.settimeout(30)
                sock.sendall(b"POST /settled HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
                with contextlib.suppress(ConnectionError):
                    return sock.recv(1000)
                return b""

        assert b"HTTP" not in secure.lab.control.within(speak)


def report(node):
    return {"node": node, "digest": "1", "serial": 1}


def test_an_agent_speaks_for_the_node_of_its_certificate_and_no_other(secure):
    secure.ask("/settled", report("node1"), "node1")
    with pytest.raises(ExchangeError, match="its certificate is of node node1"):
        secure.ask("/settled", report("node2"), "node1")
    with pytest.raises(ExchangeError, match="certificate is of node node2"):
        secure.ask("/connections", {"node": "node1", "question": 1}, "node2")
    with pytest.raises(ExchangeError, match=r"401.*expected a node's certificate"):
        secure.ask("/settled", report("node1"))


def certificate(secure, token, port=AGENTS_PORT):
    return secure.ask("/certificate", {"token": token, "request": new_request()[1]}, port=port)


def test_only_a_token_of_an_agents_pod_for_the_controller_gets_a_certificate(secure):
    secure.post_pod("imposter", "node1", "somebody")
    good = secure.token(f"{ACCOUNT}-node1")
    assert "BEGIN CERTIFICATE" in certificate(secure, good)["certificate"]
    bad = {
        "not for ovsnet-controller|does not believe": secure.token(f"{ACCOUNT}-node1", "other"),
        "ovsnet-system:somebody's": secure.token("imposter", account="somebody"),
        "bound to no pod": secure.token(""),
        "none of a service account": "no token",
        "does not believe": good[:-4] + "AAAA",
    }
    for words, token in bad.items():
        with pytest.raises(ExchangeError, match=f"answers 403.*({words})"):
            certificate(secure, token)


def test_a_token_is_worth_nothing_once_its_pod_is_gone(secure):
    secure.post_pod("short", "node2")
    token = secure.token("short")
    assert certificate(secure, token)
    secure.lab.api(
        "DELETE", "/api/v1/namespaces/ovsnet-system/pods/short", {"gracePeriodSeconds": 0}
    )

    def refused():
        try:
            certificate(secure, token)
        except ExchangeError as error:
            return "does not believe" in str(error)
        return False

    wait_for(refused, "the token to be refused")


def test_a_request_that_cannot_be_signed_is_refused_in_words(secure):
    token = secure.token(f"{ACCOUNT}-node1")
    with pytest.raises(ExchangeError, match=r"answers 400.*no certificate signing request"):
        secure.ask("/certificate", {"token": token, "request": "nonsense"})
    with pytest.raises(ExchangeError, match=r"answers 400.*expected a token and a request"):
        secure.ask("/certificate", {"token": token})
    with pytest.raises(ExchangeError, match="answers 413"):
        secure.ask("/certificate", {"token": "x" * 70_000, "request": ""})


def test_certificates_are_exchanged_while_pods_talk_and_none_of_their_packets_is_lost(secure, pods):
    # Half a minute each, so that sessions end with them, too.
    brief = "--certificate-hours", "0.01"
    before = {name: secure.files(name).node.read_text() for name in secure.lab.nodes}

    def exchanged():
        now = {name: secure.files(name) for name in secure.lab.nodes}
        return all(files.read(files.node) not in {"", before[n]} for n, files in now.items())

    with nothing_lost(pods):
        secure.start_controller(*brief)
        for name in secure.lab.nodes:
            secure.files(name).node.unlink()
        wait_for(exchanged, "other certificates", 60)
        # Whoever has connected in between has done so with a certificate that lasts.
        secure.start_controller(*brief)
        mark = secure.lab.log_size(CONTROLLER)
        wait_for(
            lambda: "its certificate has run out" in secure.lab.log(CONTROLLER, mark),
            "a session to end with its certificate",
            120,
        )
        secure.wait_until_secure()
    secure.start_controller()
    for name in secure.lab.nodes:
        secure.files(name).node.unlink()
    secure.wait_until_secure()
    assert "exception" not in secure.lab.log(CONTROLLER)


def test_a_deleted_secret_is_written_again_and_a_second_controller_reads_the_same(secure, pods):
    before = secure.secret()
    with nothing_lost(pods):
        secure.lab.api("DELETE", SECRET)
        secure.lab.api("DELETE", CONFIG_MAP)
        wait_for(secure.bundle, "the ConfigMap to be back", 60)
        assert secure.secret() == before
        secure.start_second()
        token = secure.token(f"{ACCOUNT}-node1")

        def answered():
            with contextlib.suppress(ExchangeError):
                return certificate(secure, token, SECOND_AGENTS)

        assert wait_for(answered, "the second controller")
        secure.ask("/settled", report("node1"), "node1", SECOND_AGENTS)
        assert secure.secret() == before
        secure.lab.kill(SECOND)


def test_controllers_that_find_no_authority_agree_on_a_new_one_and_all_nodes_follow(secure, pods):
    old = secure.bundle()
    stale = client_context(old, secure.files("node1").node)
    with nothing_lost(pods):
        secure.lab.kill(CONTROLLER)
        secure.lab.api("DELETE", SECRET)
        secure.lab.start(SECOND)
        secure.start_controller()
        wait_for(lambda: secure.bundle() not in {"", old}, "another authority", 60)
        new = secure.bundle()
        for name in secure.lab.nodes:
            wait_for(lambda name=name: secure.files(name).trusted.read_text() == new, name, 60)
        secure.wait_until_secure()
        assert secure.bundle() == new
    # Both have the one that the Secret has; and the old one counts for nobody.
    for port in (AGENTS_PORT, SECOND_AGENTS):
        secure.ask("/settled", report("node1"), "node1", port)
        exchange = Exchange(secure.url(port), tls=lambda: stale)
        with pytest.raises(ExchangeError, match="cannot be reached"):
            secure.lab.control.within(lambda exchange=exchange: exchange.post("/settled", {}))
    secure.lab.kill(SECOND)


def test_agents_that_find_the_controllers_by_their_service_speak_tls_unasked(secure, pods):
    with nothing_lost(pods):
        for name in secure.lab.nodes:
            secure.files(name).node.unlink()
            secure.discover(name)
        secure.wait_until_secure()
    for name in secure.lab.nodes:
        assert secure.files(name).node.exists()
        assert "ssl:" in secure.targets(name)
        secure.secure_agent(name)


def test_of_two_controllers_the_other_takes_over_and_lets_new_pods_in(secure, pods):
    lease = ("--lease", "ovsnet-system/ovsnet-controller")
    mark = secure.lab.log_size(CONTROLLER)
    secure.start_controller(*lease, "--pod", "one")
    secure.lab.wait_for_log(CONTROLLER, "event=leads", mark)
    secure.start_second(*lease, "--pod", "two")
    for name in secure.lab.nodes:
        secure.secure_agent(name, both=True)
    secure.wait_until_secure()
    with nothing_lost(pods):
        mark = secure.lab.log_size(SECOND)
        secure.lab.kill(CONTROLLER)
        secure.lab.wait_for_log(SECOND, "event=leads", mark)
        made = secure.lab.pods([("b2", "node2")])
        pods["a1"].run("ping", "-c1", "-W5", str(made["b2"].ipv4))
    secure.lab.delete_pods(["b2"])
    secure.lab.kill(SECOND)
