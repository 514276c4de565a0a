"""NetworkPolicies in files: every form in which kubectl takes them, and nothing else."""

import json

import pytest

from ovsnet.cli.policyfiles import FileError, as_json, policies

DENY = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: deny
  creationTimestamp: 2025-01-31T12:00:00Z
spec:
  podSelector: {}
"""
WANTED = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {
        "name": "deny",
        "namespace": "shop",
        "creationTimestamp": "2025-01-31T12:00:00Z",
    },
    "spec": {"podSelector": {}},
}
LISTED = "\n".join(f"  {line}" for line in DENY.splitlines())
ITEM = f"-{LISTED[1:]}\n"
BARE = """\
- metadata: {name: deny, creationTimestamp: "2025-01-31T12:00:00Z"}
  spec: {podSelector: {}}
"""


def read(text, namespace="shop"):
    octets = text.encode() if isinstance(text, str) else text
    return list(policies(octets, "deny.yaml", namespace))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (DENY, 1),
        (json.dumps(WANTED), 1),
        (json.dumps(WANTED, indent="\t"), 1),
        (f"---\n{DENY}---\n---\n{DENY}", 2),
        (f"apiVersion: v1\nkind: List\nitems:\n{ITEM}{ITEM}", 2),
        (f"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicyList\nitems:\n{ITEM}{BARE}", 2),
        ("apiVersion: v1\nkind: List\nitems:\n", 0),
        ("apiVersion: v1\nkind: List\nitems: []\n", 0),
        ("", 0),
        ("# nothing\n---\n", 0),
    ],
)
def test_every_form(text, count):
    assert read(text) == [WANTED] * count


def test_a_namespace_of_its_own_is_kept():
    named = DENY.replace("name: deny", "name: deny\n  namespace: bank")
    assert read(named)[0]["metadata"]["namespace"] == "bank"
    null = DENY.replace("name: deny", "name: deny\n  namespace:")
    assert read(null)[0]["metadata"]["namespace"] == "shop"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            f"{DENY}---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\n",
            "deny.yaml, document 2 is Deployment (apps/v1) web: expected NetworkPolicy",
        ),
        (DENY.replace("networking.k8s.io/v1", "extensions/v1beta1"), "(extensions/v1beta1) deny"),
        (DENY.replace("NetworkPolicy", "Ingress"), "is Ingress (networking.k8s.io/v1) deny"),
        (
            f"apiVersion: v1\nkind: List\nitems:\n{ITEM}- kind: Pod\n  apiVersion: v1\n",
            "document 1, item 2 is Pod (v1): expected",
        ),
        ("spec: {}\n", "is an object without a kind (no apiVersion): expected"),
        ("just words\n", "document 1: expected an object, not str"),
        ("- a\n- b\n", "document 1: expected an object, not list"),
        ("apiVersion: v1\nkind: List\nitems: 7\n", "document 1: expected a list of items"),
        ("apiVersion: v1\nkind: List\nitems: [7]\n", "item 1: expected an object, not int"),
        (DENY.replace("name: deny", "generateName: x"), "a NetworkPolicy without a name"),
        (DENY.replace("name: deny", "name: 7"), "a NetworkPolicy without a name"),
        ("kind: NetworkPolicy\nmetadata: 7\n", "expected metadata to be an object"),
        ("a: [\n", "deny.yaml is neither YAML nor JSON"),
        ("a: !!python/object:os.system x\n", "deny.yaml is neither YAML nor JSON"),
        (b"\xff\xfe\xff\xff", "deny.yaml is neither YAML nor JSON"),
        (b"a: \xff", "deny.yaml is neither YAML nor JSON"),
    ],
)
def test_what_is_no_policy(text, words):
    with pytest.raises(FileError) as raised:
        read(text)
    assert words in str(raised.value)
    assert raised.value.exit_code == 2


def test_numbers_and_texts_stay_what_they_are():
    (found,) = read(
        DENY + "  ingress: [{ports: [{port: 80}, {port: '80'}, {port: http, endPort: 08}]}]\n"
    )
    ports = found["spec"]["ingress"][0]["ports"]
    assert ports == [{"port": 80}, {"port": "80"}, {"port": "http", "endPort": "08"}]


def test_what_the_controller_is_sent():
    assert json.loads(as_json(read(DENY), delete=True)) == {"policies": [WANTED], "delete": True}
    with pytest.raises(FileError, match="cannot be written as JSON"):
        as_json(read(DENY + "  ingress: {yes: please}\n"), delete=False)
