"""Label and field selectors: what they say is what they select."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsnet.sandbox.apiserver.selectors import from_label_selector, parse_fields, parse_labels
from ovsnet.sandbox.apiserver.status import ApiError

KEYS = ("a", "b.example/c", "tier")
VALUES = ("", "x", "y", "10", "7")

labels = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))
spaces = st.sampled_from(("", " ", "  "))


@st.composite
def terms(draw):
    """A term of a selector as text, and what it means as a function."""
    key = draw(st.sampled_from(KEYS))
    values = draw(st.lists(st.sampled_from(VALUES), min_size=1, max_size=3))
    gap = draw(spaces)
    form = draw(st.sampled_from(("exists", "absent", "=", "==", "!=", "in", "notin", "<", ">")))
    one, listed = values[0], f"({f',{gap}'.join(values)})"
    if form in "<>":
        number = draw(st.integers(-20, 20))

        def compare(given):
            text = given.get(key, "")
            return text.isdigit() and (int(text) < number if form == "<" else int(text) > number)

        return f"{key}{gap}{form}{gap}{number}", compare
    return {
        "exists": (key, lambda given: key in given),
        "absent": (f"!{key}", lambda given: key not in given),
        "=": (f"{key}{gap}={gap}{one}", lambda given: given.get(key) == one),
        "==": (f"{key}{gap}=={gap}{one}", lambda given: given.get(key) == one),
        "!=": (f"{key}{gap}!={gap}{one}", lambda given: given.get(key) != one),
        "in": (f"{key} in {gap}{listed}", lambda given: given.get(key) in values),
        "notin": (f"{key} notin {listed}", lambda given: given.get(key) not in values),
    }[form]


@given(st.lists(terms(), max_size=4), labels)
def test_a_selector_selects_what_all_its_terms_select(listed, given_labels):
    selector = parse_labels(",".join(text for text, _ in listed))
    assert selector.matches(given_labels) is all(means(given_labels) for _, means in listed)


@pytest.mark.parametrize(
    "text",
    ["a b", "a in", "a in (", "a in x", "=x", "a=b=c", "a,,b", "!", "a > x", "-a", "a=b!", "(a)"],
)
def test_a_malformed_selector_is_refused_by_name(text):
    with pytest.raises(ApiError, match="unable to parse requirement") as caught:
        parse_labels(text)
    assert caught.value.code == 400
    assert repr(text) in caught.value.message


def test_field_selectors_compare_as_text_and_know_their_fields():
    known = {"metadata.name", "spec.nodeName"}
    selector = parse_fields("spec.nodeName=,metadata.name!=p", known)
    assert selector.matches({"spec.nodeName": "", "metadata.name": "q"})
    assert not selector.matches({"spec.nodeName": "n", "metadata.name": "q"})
    assert not selector.matches({"spec.nodeName": "", "metadata.name": "p"})
    with pytest.raises(ApiError, match=r"field label not supported: spec\.colour"):
        parse_fields("spec.colour=red", known)
    with pytest.raises(ApiError, match=r"can't understand 'metadata\.name'"):
        parse_fields("metadata.name", known)


def test_an_object_selector_is_the_conjunction_of_its_parts():
    selector = from_label_selector(
        {
            "matchLabels": {"a": "x"},
            "matchExpressions": [
                {"key": "tier", "operator": "NotIn", "values": ["y"]},
                {"key": "gone", "operator": "DoesNotExist"},
            ],
        }
    )
    assert selector.matches({"a": "x"})
    assert selector.matches({"a": "x", "tier": "x"})
    assert not selector.matches({"a": "x", "tier": "y"})
    assert not selector.matches({"a": "x", "gone": ""})
    with pytest.raises(ApiError, match="'Near' is not a valid selector operator"):
        from_label_selector({"matchExpressions": [{"key": "a", "operator": "Near"}]})
