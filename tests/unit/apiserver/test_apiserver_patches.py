"""The patch types, by their own specifications' examples and against diffs made by the tests."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsnet.sandbox.apiserver import schema
from ovsnet.sandbox.apiserver.kinds import POD
from ovsnet.sandbox.apiserver.patch.json_patch import PatchError, apply_json_patch
from ovsnet.sandbox.apiserver.patch.merge_patch import apply_merge_patch
from ovsnet.sandbox.apiserver.patch.strategic import apply_strategic_patch

# RFC 6902, appendix A: document, patch, result.
RFC_6902 = [
    ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
    (
        {"foo": ["bar", "baz"]},
        [{"op": "add", "path": "/foo/1", "value": "qux"}],
        {"foo": ["bar", "qux", "baz"]},
    ),
    ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
    ({"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
    (
        {"baz": "qux", "foo": "bar"},
        [{"op": "replace", "path": "/baz", "value": "boo"}],
        {"baz": "boo", "foo": "bar"},
    ),
    (
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    (
        {"foo": ["all", "grass", "cows", "eat"]},
        [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
        {"foo": ["all", "cows", "eat", "grass"]},
    ),
    (
        {"baz": "qux", "foo": ["a", 2, "c"]},
        [
            {"op": "test", "path": "/baz", "value": "qux"},
            {"op": "test", "path": "/foo/1", "value": 2},
        ],
        {"baz": "qux", "foo": ["a", 2, "c"]},
    ),
    (
        {"foo": "bar"},
        [{"op": "add", "path": "/child", "value": {"grandchild": {}}}],
        {"foo": "bar", "child": {"grandchild": {}}},
    ),
    (
        {"foo": "bar"},
        [{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}],
        {"foo": "bar", "baz": "qux"},
    ),
    ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
    (
        {"foo": ["bar"]},
        [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}],
        {"foo": ["bar", ["abc", "def"]]},
    ),
    ({"a": 1}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": 1, "b": 1}),
]

FAILING = [
    ({"baz": "qux"}, [{"op": "test", "path": "/baz", "value": "bar"}], "not the expected one"),
    ({"foo": "bar"}, [{"op": "add", "path": "/baz/bat", "value": "qux"}], "there is no 'baz'"),
    ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": "10"}], "not the expected one"),
    ({"a": True}, [{"op": "test", "path": "/a", "value": 1}], "not the expected one"),
    ({"a": [1]}, [{"op": "remove", "path": "/a/1"}], "outside a list of 1"),
    ({"a": [1]}, [{"op": "add", "path": "/a/01", "value": 2}], "no index"),
    ({"a": {}}, [{"op": "move", "from": "/a", "path": "/a/b"}], "into itself"),
    ({}, [{"op": "add", "path": "/a"}], "add has no value"),
    ({}, [{"op": "burn", "path": "/a"}], "'burn' is no operation"),
    ({}, [{"op": "remove", "path": "a"}], "no JSON pointer"),
    ({}, {"op": "remove"}, "list of operations"),
]


@pytest.mark.parametrize(("document", "patch", "result"), RFC_6902)
def test_json_patch_does_what_the_rfc_shows(document, patch, result):
    before = copy.deepcopy(document)
    assert apply_json_patch(document, patch) == result
    assert document == before


@pytest.mark.parametrize(("document", "patch", "message"), FAILING)
def test_a_json_patch_that_fails_says_where(document, patch, message):
    before = copy.deepcopy(document)
    with pytest.raises(PatchError, match=message):
        apply_json_patch(document, patch)
    assert document == before


# RFC 7396, appendix A: original, patch, result.
RFC_7396 = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("original", "patch", "result"), RFC_7396)
def test_merge_patch_does_what_the_rfc_shows(original, patch, result):
    assert apply_merge_patch(original, patch) == result


PODS = schema.of_kind(POD)
names = st.sampled_from(("a", "b", "c", "d"))


@st.composite
def pods(draw):
    """A pod's spec with lists of every sort: keyed, of plain values, and replaced whole."""
    order = draw(st.permutations(("a", "b", "c", "d")))
    containers = [
        {
            "name": name,
            "image": draw(st.sampled_from(("i:1", "i:2"))),
            "args": draw(st.lists(st.sampled_from(("x", "y")), max_size=2)),
            "ports": [
                {"containerPort": port}
                for port in draw(st.lists(st.integers(1, 3), unique=True, max_size=3))
            ],
        }
        for name in order[: draw(st.integers(1, 4))]
    ]
    return {
        "metadata": {
            "labels": draw(st.dictionaries(names, st.sampled_from(("1", "2")))),
            "finalizers": draw(st.lists(names, unique=True)),
        },
        "spec": {"containers": containers, "nodeSelector": draw(st.dictionaries(names, names))},
    }


def difference(old, new):
    """A merge patch between two maps of plain values."""
    patch = {key: value for key, value in new.items() if old.get(key) != value}
    return patch | {key: None for key in old if key not in new}


def keyed_difference(old, new, key, inner):
    """A strategic patch between two keyed lists, as kubectl makes it: items and their order."""
    before = {item[key]: item for item in old}
    patch = [
        {"$patch": "delete", key: name} for name in before if name not in [i[key] for i in new]
    ]
    for item in new:
        patch.append({key: item[key]} | inner(before.get(item[key], {}), item))
    return patch, [{key: item[key]} for item in new]


def container_difference(old, new):
    ports, order = keyed_difference(
        old.get("ports", []), new["ports"], "containerPort", lambda _, __: {}
    )
    return {
        "image": new["image"],
        "args": new["args"],
        "ports": ports,
        "$setElementOrder/ports": order,
    }


def strategic_difference(old, new):
    containers, order = keyed_difference(
        old["spec"]["containers"], new["spec"]["containers"], "name", container_difference
    )
    gone = [f for f in old["metadata"]["finalizers"] if f not in new["metadata"]["finalizers"]]
    return {
        "metadata": {
            "labels": difference(old["metadata"]["labels"], new["metadata"]["labels"]),
            "finalizers": new["metadata"]["finalizers"],
            "$deleteFromPrimitiveList/finalizers": gone,
            "$setElementOrder/finalizers": new["metadata"]["finalizers"],
        },
        "spec": {
            "containers": containers,
            "$setElementOrder/containers": order,
            "nodeSelector": difference(old["spec"]["nodeSelector"], new["spec"]["nodeSelector"]),
        },
    }


@given(pods(), pods())
def test_a_strategic_patch_leads_from_any_pod_to_any_other(old, new):
    before = copy.deepcopy(old)
    assert apply_strategic_patch(old, strategic_difference(old, new), PODS) == new
    assert old == before


def patched(containers, patch):
    result = apply_strategic_patch({"spec": {"containers": containers}}, {"spec": patch}, PODS)
    return result["spec"]


def test_what_others_added_stays_where_a_patch_does_not_name_it():
    mine, theirs = {"name": "mine", "image": "1"}, {"name": "theirs", "image": "2"}
    order = [{"name": "new"}, {"name": "mine"}]
    patch = {
        "containers": [{"name": "new", "image": "3"}, {"name": "mine", "image": "1"}],
        "$setElementOrder/containers": order,
    }
    result = patched([mine, theirs], patch)["containers"]
    named = [c["name"] for c in result]
    assert named.index("new") < named.index("mine")
    assert theirs in result


def test_directives_replace_delete_and_retain():
    containers = [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]
    replaced = patched(containers, {"containers": [{"$patch": "replace"}, {"name": "c"}]})
    assert replaced["containers"] == [{"name": "c"}]
    deleted = patched(containers, {"containers": [{"$patch": "delete", "name": "a"}]})
    assert deleted["containers"] == [{"name": "b", "image": "2"}]
    volumes = {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}
    patch = {
        "spec": {
            "volumes": [
                {"$retainKeys": ["name", "hostPath"], "name": "v", "hostPath": {"path": "/x"}}
            ]
        }
    }
    result = apply_strategic_patch(volumes, patch, PODS)
    assert result["spec"]["volumes"] == [{"name": "v", "hostPath": {"path": "/x"}}]
    labels = {"metadata": {"labels": {"a": "1"}}}
    swapped = apply_strategic_patch(
        labels, {"metadata": {"labels": {"$patch": "replace", "b": "2"}}}, PODS
    )
    assert swapped == {"metadata": {"labels": {"b": "2"}}}


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"containers": [{"image": "i"}]}, "containers: an item has no 'name'"),
        ({"containers": ["x"]}, "containers: expected objects"),
        ({"$patch": "burn"}, "'burn' is no"),
    ],
)
def test_a_strategic_patch_that_does_not_fit_is_refused(patch, message):
    with pytest.raises(PatchError, match=message):
        patched([{"name": "a"}], patch)
