"""Certificates for tokens: what is asked of the API server, and what is answered."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from cryptography import x509
from trust_stage import POD, Desk, Stage

from ovsnet import names
from ovsnet.api import NoAnswerError
from ovsnet.cni.credentials import new_request, objection
from ovsnet.controller.trust.issuer import Issuer, RefusedError

TOKEN = "a.b-c_d.e"


@pytest.fixture
def stage():
    made = Stage()
    made.rounds()
    return made


def issuer(stage, desk, life=timedelta(hours=24)):
    return Issuer(stage.all[0], desk, "ovsnet-system", life, stage.clock)


def body(token=TOKEN, request=None):
    return json.dumps({"token": token, "request": request or new_request()[1]}).encode()


def test_a_token_that_names_its_node_gets_that_nodes_certificate(stage):
    key, request = new_request()
    desk = Desk()
    answer = json.loads(issuer(stage, desk).issue(body(request=request)))
    assert answer.keys() == {"certificate"}
    assert objection(key + answer["certificate"], "node-1", stage.bundle, stage.now) is None
    found = x509.load_pem_x509_certificate(answer["certificate"].encode())
    assert found.not_valid_after_utc == stage.now + timedelta(hours=24)
    assert desk.asked == [(TOKEN, names.AUDIENCE)]


def test_for_a_token_that_names_its_pod_alone_the_pod_is_looked_up(stage):
    desk = Desk(extra=POD)
    desk.pods["ovsnet-system", "agent-x", "u-1"] = "node-2"
    key, request = new_request()
    answer = json.loads(issuer(stage, desk).issue(body(request=request)))
    assert objection(key + answer["certificate"], "node-2", stage.bundle, stage.now) is None


def refused(stage, desk, text):
    with pytest.raises(RefusedError) as found:
        issuer(stage, desk).issue(text)
    return found.value.status, str(found.value)


def test_a_pod_that_is_another_by_now_or_on_no_node_is_nobodys(stage):
    desk = Desk(extra=POD)
    desk.pods["ovsnet-system", "agent-x", "u-2"] = "node-2"
    status, words = refused(stage, desk, body())
    assert (status, "agent-x" in words) == (403, True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"authenticated": False, "error": "expired"}, "expired"),
        ({"audiences": ("kubernetes",)}, "not for"),
        ({"user": "system:serviceaccount:ovsnet-system:other"}, "other's"),
        ({"extra": {}}, "bound to no pod"),
    ],
)
def test_another_token_gets_none(stage, changes, words):
    status, said = refused(stage, Desk(**changes), body())
    assert (status, words in said) == (403, True)


@pytest.mark.parametrize("token", ["", "a", "a.b", "a.b.c.d", "a.b.c\n", "a b.c.d", "a.b.\u00e9"])
def test_what_is_no_token_troubles_nobody(stage, token):
    desk = Desk()
    status, words = refused(stage, desk, body(token))
    assert (status, words) == (403, "the token is none of a service account")
    assert desk.asked == []


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b'{"token": 1, "request": ""}',
        b'{"token": "a.b.c"}',
        json.dumps({"token": "a" * 20_000, "request": ""}).encode(),
        json.dumps({"token": TOKEN, "request": "a" * 20_000}).encode(),
        b'{"token": "\xff", "request": ""}',
    ],
)
def test_what_is_no_request_is_refused_in_words(stage, text):
    desk = Desk()
    status, words = refused(stage, desk, text)
    assert status == 400
    assert words.startswith("expected a token and a request: ")
    assert desk.asked == []


def test_a_request_that_cannot_be_signed_is_refused(stage):
    status, words = refused(stage, Desk(), body(request="nonsense"))
    assert (status, "no certificate signing request" in words) == (400, True)


def test_while_the_api_server_is_away_the_agent_is_told_to_come_again(stage):
    desk = Desk(extra=POD)
    desk.answer = NoAnswerError("no answer")
    assert refused(stage, desk, body()) == (503, "the token cannot be checked: no answer")
    desk = Desk(extra=POD)
    desk.pods["ovsnet-system", "agent-x", "u-1"] = NoAnswerError("no answer")
    assert refused(stage, desk, body())[0] == 503


def test_before_there_is_an_authority_the_agent_is_told_to_come_again():
    assert refused(Stage(), Desk(), body())[0] == 503
