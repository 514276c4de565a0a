"""Tokens and time: the rest of what they are is in the contract tests."""

from __future__ import annotations

from typing import Any

import pytest
from apiserver_cluster import Clock, pod, registry

from ovsnet.sandbox.apiserver.deletion import Deletion
from ovsnet.sandbox.apiserver.kinds import POD, SERVICE_ACCOUNT
from ovsnet.sandbox.apiserver.registry import Write
from ovsnet.sandbox.apiserver.tokens import Tokens

ACCOUNT = ("default", "a")
KEY = b"k" * 32


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> Tokens:
    made = registry(clock)
    made.create(SERVICE_ACCOUNT, "default", {"metadata": {"name": "a"}}, Write())
    made.create(POD, "default", pod(serviceAccountName="a"), Write())
    return Tokens(made, KEY)


def issued(tokens: Tokens, **spec: Any) -> str:
    answer = tokens.request(ACCOUNT, {"spec": {"audiences": ["x"]} | spec})
    return str(answer["status"]["token"])


def review(tokens: Tokens, token: str) -> Any:
    return tokens.review({"spec": {"token": token, "audiences": ["x"]}})["status"]


def test_a_token_runs_out(tokens: Tokens, clock: Clock) -> None:
    token = issued(tokens, expirationSeconds=700)
    clock.forward(699)
    assert review(tokens, token)["authenticated"]
    clock.forward(1)
    assert review(tokens, token) == {
        "user": {},
        "error": "[invalid bearer token, service account token has expired]",
    }


def test_a_token_that_another_server_signed_is_nobodys(tokens: Tokens) -> None:
    other = Tokens(tokens._registry, b"o" * 32)
    assert review(other, issued(tokens))["error"] == "invalid bearer token"


def test_a_token_is_void_as_soon_as_its_pod_is_gone(tokens: Tokens) -> None:
    reference = {"kind": "Pod", "apiVersion": "v1", "name": "p"}
    token = issued(tokens, boundObjectRef=reference)
    assert review(tokens, token)["authenticated"]
    tokens._registry.delete(POD, ("default", "p"), Deletion(grace=0), Write())
    assert "pod p of the token is gone" in review(tokens, token)["error"]
