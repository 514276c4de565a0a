"""Tokens of service accounts. Runs on the embedded and on a real server."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode

import pytest
from places import wait_for

AUDIENCE = "somebody"
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
FORGETS = 30.0
"""Seconds within which a server notices that a token is void. Real ones remember it for 10."""


@pytest.fixture
def core(namespace):
    return f"/api/v1/namespaces/{namespace}"


def ask(target, core, account="default", **spec):
    body = {"spec": {"audiences": [AUDIENCE]} | spec}
    return target.request("POST", f"{core}/serviceaccounts/{account}/token", body)


def review(target, token, *audiences):
    spec = {"token": token, "audiences": list(audiences or (AUDIENCE,))}
    return target.ok("POST", REVIEWS, {"spec": spec})["status"]


def pod(target, core, name="p", node=""):
    spec = {
        "serviceAccountName": "default",
        "containers": [{"name": "c", "image": "i"}],
        "terminationGracePeriodSeconds": 0,
        "schedulerName": "nobody",
    } | ({"nodeName": node} if node else {})
    return target.ok("POST", f"{core}/pods", {"metadata": {"name": name}, "spec": spec})


def bound(obj):
    reference = {"apiVersion": "v1", "kind": obj["kind"], "name": obj["metadata"]["name"]}
    return reference | {"uid": obj["metadata"]["uid"]}


def claims(token):
    part = token.split(".")[1]
    return json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def test_a_token_says_whose_it_is(target, core, namespace):
    account = target.ok("GET", f"{core}/serviceaccounts/default")
    answer = ask(target, core, expirationSeconds=1200)
    assert answer.status == 201
    assert (answer.body["kind"], answer.body["apiVersion"]) == (
        "TokenRequest",
        "authentication.k8s.io/v1",
    )
    assert answer.body["spec"]["audiences"] == [AUDIENCE]
    said = claims(answer.body["status"]["token"])
    assert (said["aud"], said["exp"] - said["iat"]) == ([AUDIENCE], 1200)
    assert said["sub"] == f"system:serviceaccount:{namespace}:default"
    status = review(target, answer.body["status"]["token"])
    assert status["authenticated"] is True
    assert status["audiences"] == [AUDIENCE]
    user = status["user"]
    assert (user["username"], user["uid"]) == (said["sub"], account["metadata"]["uid"])
    assert set(user["groups"]) >= {
        "system:serviceaccounts",
        f"system:serviceaccounts:{namespace}",
        "system:authenticated",
    }


def test_a_pods_token_names_the_pod_and_its_node(target, core):
    node = f"node-{core.rpartition('-')[2]}"
    registered = target.ok("POST", "/api/v1/nodes", {"metadata": {"name": node}})
    try:
        made = pod(target, core, node=node)
        token = ask(target, core, boundObjectRef=bound(made)).body["status"]["token"]
        extra = review(target, token)["user"]["extra"]
        told = {name.rpartition("/")[2]: values for name, values in extra.items()}
        assert told.pop("credential-id")[0].startswith("JTI=")
        assert told == {
            "pod-name": ["p"],
            "pod-uid": [made["metadata"]["uid"]],
            "node-name": [node],
            "node-uid": [registered["metadata"]["uid"]],
        }
    finally:
        target.request("DELETE", f"/api/v1/nodes/{node}")


def test_a_token_goes_with_the_object_that_it_is_bound_to(target, core):
    made = pod(target, core)
    token = ask(target, core, boundObjectRef=bound(made)).body["status"]["token"]
    assert review(target, token)["authenticated"] is True
    target.ok("DELETE", f"{core}/pods/p", {"gracePeriodSeconds": 0})
    # Another of its name is another one.
    pod(target, core)
    wait_for(
        lambda: not review(target, token).get("authenticated"), "the token to be void", FORGETS
    )


def test_a_token_goes_with_its_account(target, core):
    target.ok("POST", f"{core}/serviceaccounts", {"metadata": {"name": "short"}})
    token = ask(target, core, "short").body["status"]["token"]
    assert review(target, token)["authenticated"] is True
    target.ok("DELETE", f"{core}/serviceaccounts/short")
    wait_for(
        lambda: not review(target, token).get("authenticated"), "the token to be void", FORGETS
    )


def test_a_token_for_others_or_of_nobody_is_not_believed(target, core):
    token = ask(target, core).body["status"]["token"]
    head, payload, signature = token.split(".")
    forged = signature[:10] + ("A" if signature[10] != "A" else "B") + signature[11:]
    reviews = [
        review(target, token, "somebody else"),
        review(target, f"{head}.{payload}.{forged}"),
        review(target, "nonsense"),
    ]
    for status in reviews:
        assert not status.get("authenticated")
        assert status["error"]
        assert "username" not in status["user"]


def test_one_of_several_audiences_is_enough(target, core):
    token = ask(target, core, audiences=["a", "b", "c"]).body["status"]["token"]
    assert review(target, token, "x", "b", "c")["audiences"] == ["b", "c"]


def test_a_token_without_an_audience_is_for_the_server_itself(target, core):
    asked = ask(target, core, audiences=[])
    (issuer,) = asked.body["spec"]["audiences"]
    assert claims(asked.body["status"]["token"])["iss"] == issuer
    body = {"spec": {"token": asked.body["status"]["token"]}}
    assert target.ok("POST", REVIEWS, body)["status"]["audiences"] == [issuer]


@pytest.mark.parametrize(
    ("spec", "status", "words"),
    [
        ({"expirationSeconds": 599}, 422, "may not specify a duration less than 10 minutes"),
        ({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "no"}}, 404, '"no"'),
        (
            {"boundObjectRef": {"kind": "ConfigMap", "apiVersion": "v1", "name": "x"}},
            400,
            "cannot bind token to object of type",
        ),
        (
            {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "other"}},
            409,
            "does not match the UID in record",
        ),
    ],
)
def test_a_token_that_cannot_be(target, core, spec, status, words):
    pod(target, core)
    answer = ask(target, core, **spec)
    assert answer.status == status, answer.body
    assert words in answer.body["message"]


def test_a_pod_speaks_for_its_own_account_only(target, core):
    target.ok("POST", f"{core}/serviceaccounts", {"metadata": {"name": "other"}})
    answer = ask(target, core, "other", boundObjectRef=bound(pod(target, core)))
    assert answer.status == 400, answer.body
    assert "different serviceaccount name" in answer.body["message"]


def test_an_account_that_is_not_there_gets_none(target, core):
    assert ask(target, core, "nobody").status == 404


def test_a_review_of_nothing_is_refused(target):
    assert target.request("POST", REVIEWS, {"spec": {}}).status == 400


def test_kubectl_creates_a_token(kubectl, target):
    token = kubectl("create", "token", "default", "--audience", AUDIENCE).strip()
    assert review(target, token)["authenticated"] is True
