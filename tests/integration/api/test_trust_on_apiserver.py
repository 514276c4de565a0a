"""Secrets, ConfigMaps and tokens on API servers: kept by several at once, followed, looked at."""

from __future__ import annotations

import queue

import pytest
from api_servers import SERVERS, api_server
from places import wait_for

from ovsnet.api import Keep, NoAnswerError, TokenDesk, connect, watch_config_map
from ovsnet.controller.trust.keyring import Keyring

SPACE = "ovsnet-system"
ALL = f"/api/v1/namespaces/{SPACE}"
USER = f"system:serviceaccount:{SPACE}:ovsnet-node"


@pytest.fixture(scope="module", params=SERVERS)
def server(request):
    with api_server(request.param) as made:
        made.send("POST", "/api/v1/namespaces", {"metadata": {"name": SPACE}})
        made.send("POST", f"{ALL}/serviceaccounts", {"metadata": {"name": "ovsnet-node"}})
        yield made


@pytest.mark.parametrize("kind", ["Secret", "ConfigMap"])
def test_of_two_who_write_the_same_version_the_second_is_told(connection, kind):
    one = Keep(connection, kind, SPACE, "kept")
    assert one.read() is None
    assert one.write({"a": "MQ=="}, None)
    assert not one.write({"a": "Mg=="}, None)
    first = one.read()
    assert first.data == {"a": "MQ=="}
    assert one.write({"a": "Mw=="}, first)
    assert not one.write({"a": "NA=="}, first)
    assert one.read().data == {"a": "Mw=="}


def test_what_is_deleted_meanwhile_is_not_written(server, connection):
    keep = Keep(connection, "Secret", SPACE, "gone")
    assert keep.write({}, None)
    before = keep.read()
    server.send("DELETE", f"{ALL}/secrets/gone")
    assert not keep.write({"a": "MQ=="}, before)
    assert keep.read() is None


def test_where_nothing_can_be_kept_it_is_said(connection):
    with pytest.raises(NoAnswerError, match="404"):
        Keep(connection, "Secret", "nowhere", "x").write({}, None)


def test_many_controllers_that_start_at_once_agree(server, connection):
    def keyring():
        places = (Keep(connection, kind, SPACE, "ovsnet-ca") for kind in ("Secret", "ConfigMap"))
        return Keyring(*places, pause=0.1)

    every = [keyring() for _ in range(6)]
    for each in every:
        each.start()
    try:
        for each in every:
            wait_for(lambda each=each: each.held, "authorities")
        bundle = every[0].held.authorities.bundle
        assert {each.held.authorities.bundle for each in every} == {bundle}
        public = Keep(connection, "ConfigMap", SPACE, "ovsnet-ca")
        wait_for(lambda: public.read() and public.read().data == {"ca.crt": bundle}, "the bundle")
        for what in ("secrets", "configmaps"):
            server.send("DELETE", f"{ALL}/{what}/ovsnet-ca")
        wait_for(lambda: public.read() and public.read().data == {"ca.crt": bundle}, "it again")
        secret = wait_for(Keep(connection, "Secret", SPACE, "ovsnet-ca").read, "the Secret again")
        assert secret.data.keys() == {"ca.crt", "ca.key"}
        assert {each.held.authorities.bundle for each in every} == {bundle}
    finally:
        for each in every:
            each.stop()
            each._thread.join(20)


def test_a_config_map_is_followed(server, connection):
    heard = queue.Queue()
    watch = watch_config_map(connection, SPACE, "followed", heard.put)
    watch.start()
    try:
        assert heard.get(timeout=30) is None
        keep = Keep(connection, "ConfigMap", SPACE, "followed")
        Keep(connection, "ConfigMap", SPACE, "another").write({"x": "y"}, None)
        keep.write({"a": "1"}, None)
        assert heard.get(timeout=30) == {"a": "1"}
        keep.write({}, keep.read())
        assert heard.get(timeout=30) == {}
        server.send("DELETE", f"{ALL}/configmaps/followed")
        assert heard.get(timeout=30) is None
        assert heard.empty()
    finally:
        watch.stop()


def token(server, audience, pod=None):
    spec = {"audiences": [audience], "expirationSeconds": 600}
    if pod:
        metadata = pod["metadata"]
        reference = {"kind": "Pod", "apiVersion": "v1", "name": metadata["name"]}
        spec["boundObjectRef"] = reference | {"uid": metadata["uid"]}
    path = f"{ALL}/serviceaccounts/ovsnet-node/token"
    return server.send("POST", path, {"spec": spec})["status"]["token"]


def test_whose_a_token_is(server, connection):
    spec = {"nodeName": "node-1", "serviceAccountName": "ovsnet-node"}
    spec["containers"] = [{"name": "c", "image": "i"}]
    pod = server.send("POST", f"{ALL}/pods", {"metadata": {"name": "agent"}, "spec": spec})
    uid = pod["metadata"]["uid"]
    desk = TokenDesk(connection)
    found = desk.review(token(server, "ovsnet-controller", pod), "ovsnet-controller")
    assert (found.authenticated, found.user) == (True, USER)
    assert list(found.audiences) == ["ovsnet-controller"]
    extra = {k.partition("/")[2]: v for k, v in found.extra.items()}
    assert extra["pod-name"] == ["agent"]
    assert extra["pod-uid"] == [uid]
    assert extra["node-name"] == ["node-1"]
    unbound = desk.review(token(server, "ovsnet-controller"), "ovsnet-controller")
    assert unbound.authenticated
    assert "authentication.kubernetes.io/pod-name" not in unbound.extra
    for wrong in (token(server, "another", pod), "a.b.c"):
        refused = desk.review(wrong, "ovsnet-controller")
        assert not refused.authenticated
        assert refused.error
    assert desk.node_of_pod(SPACE, "agent", uid) == "node-1"
    assert desk.node_of_pod(SPACE, "agent", "another") is None
    assert desk.node_of_pod(SPACE, "nobody", uid) is None


def test_an_api_server_that_is_away_says_nothing(server):
    gone = connect(server.kubeconfig, "http://127.0.0.1:1")
    for ask in (
        Keep(gone, "Secret", SPACE, "x").read,
        lambda: TokenDesk(gone).review("a.b.c", "x"),
        lambda: TokenDesk(gone).node_of_pod(SPACE, "x", "y"),
    ):
        with pytest.raises(NoAnswerError):
            ask()
    gone.close()
