from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ovsnet.cni import conf
from ovsnet.cni.conf import Attachment, PodRef, Verb
from ovsnet.cni.errors import CniError, Code

ENVIRONMENT = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/x",
    "CNI_IFNAME": "eth0",
    "CNI_ARGS": "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=u",
    "CNI_PATH": "/opt/cni/bin:/usr/lib/cni",
}
CONF = {"cniVersion": "1.1.0", "name": "ovsnet", "type": "ovsnet"}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "containerID", "ifname"]), inner)
    ),
    max_leaves=5,
)
FIELDS = [*conf.KNOWN_FIELDS, conf.ATTACHMENTS, "other"]
ENVIRONMENTS = st.fixed_dictionaries(
    {"CNI_COMMAND": st.sampled_from([*(v.value for v in Verb), "FLY", ""])},
    optional={
        k: st.just(v) | st.text(max_size=20) for k, v in ENVIRONMENT.items() if k != "CNI_COMMAND"
    },
)


def parsed(conf_change: dict | None = None, **environment: str) -> conf.Request:
    stdin = json.dumps(CONF | (conf_change or {})).encode()
    return conf.parse(ENVIRONMENT | environment, stdin)


@given(ENVIRONMENTS, st.binary(max_size=30) | st.dictionaries(st.sampled_from(FIELDS), JSON))
@example(ENVIRONMENT, b'{"cniVersion": {}}')
@example(ENVIRONMENT, b"[" * 100_000)
def test_whatever_comes_in_is_a_request_or_an_error_of_the_specification(environment, stdin):
    raw = stdin if isinstance(stdin, bytes) else json.dumps(CONF | stdin).encode()
    answer = outcome(environment, raw)
    if isinstance(answer, CniError):
        assert answer.code < Code.INTERNAL
        assert json.loads(answer.render("1.1.0"))["msg"]
    else:
        assert answer.conf.version in conf.VERSIONS


def outcome(environment: dict[str, str], raw: bytes) -> conf.Request | CniError:
    try:
        return conf.parse(environment, raw)
    except CniError as error:
        return error


def test_an_ordinary_add():
    request = parsed()
    assert request.attachment == Attachment("c1", "eth0")
    assert request.pod == PodRef("shop", "web", "u")
    assert request.path == ("/opt/cni/bin", "/usr/lib/cni")
    assert request.conf.ipam is None


def test_our_own_ipam_may_be_named():
    assert parsed({"ipam": {"type": "ovsnet"}}).conf.ipam is None
    assert parsed({"ipam": {}}).conf.ipam is None


def test_fields_of_other_domains_are_let_through():
    assert parsed({"example.com/anything": 1})


def test_delete_is_lenient():
    request = parsed(
        {"unknown": 1, "prevResult": 3, "ipam": 4},
        CNI_COMMAND="DEL",
        CNI_NETNS="",
        CNI_ARGS="",
    )
    assert (request.verb, request.pod, request.conf.ipam) == (Verb.DEL, None, None)


def test_gc_tells_no_list_from_an_empty_one():
    assert parsed(CNI_COMMAND="GC").conf.valid_attachments is None
    assert parsed({conf.ATTACHMENTS: []}, CNI_COMMAND="GC").conf.valid_attachments == frozenset()


@pytest.mark.parametrize("verb", ["CHECK", "GC", "STATUS"])
@pytest.mark.parametrize("version", conf.VERSIONS)
def test_verbs_exist_from_their_version_on(verb: str, version: str):
    since = {"CHECK": 1, "GC": 3, "STATUS": 3}[verb]
    change = {"cniVersion": version, conf.ATTACHMENTS: []}
    if conf.VERSIONS.index(version) >= since:
        assert parsed(change, CNI_COMMAND=verb)
    else:
        with pytest.raises(CniError) as caught:
            parsed(change, CNI_COMMAND=verb)
        assert caught.value.code == Code.INCOMPATIBLE_VERSION
