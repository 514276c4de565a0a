"""Label selectors: every operator, on labels that have the key, another value, or neither."""

import pytest
from policy_objects import labels, select

from ovsnet.model import Operator, Requirement, Selector
from ovsnet.policy.selectors import selects


@pytest.mark.parametrize(
    ("selector", "selected", "not_selected"),
    [
        ("app=web", ["app=web", "app=web; tier=front"], ["app=db", "app=", "tier=web", ""]),
        ("app=web; tier=front", ["app=web; tier=front"], ["app=web", "tier=front", ""]),
        ("app in web api", ["app=web", "app=api"], ["app=db", "app=", "tier=web", ""]),
        ("app notin web api", ["app=db", "app=", "tier=web", ""], ["app=web", "app=api"]),
        ("has app", ["app=web", "app="], ["tier=web", ""]),
        ("lacks app", ["tier=web", ""], ["app=web", "app="]),
        ("has app; app notin db", ["app=web"], ["app=db", "tier=front", ""]),
        ("app=web; lacks canary", ["app=web"], ["app=web; canary=yes", "app=db", ""]),
        ("app in web; tier in front", ["app=web; tier=front"], ["app=web", "tier=front"]),
        ("app in web api; app notin api", ["app=web"], ["app=api"]),
    ],
)
def test_a_selector_selects_what_meets_all_of_its_conditions(selector, selected, not_selected):
    for text in selected:
        assert selects(select(selector), labels(text)), text
    for text in not_selected:
        assert not selects(select(selector), labels(text)), text


def test_an_empty_selector_selects_everything():
    assert selects(Selector(), ())
    assert selects(Selector(), labels("app=web"))


def test_without_values_in_selects_nothing_and_notin_everything():
    nothing = Selector(expressions=(Requirement("app", Operator.IN),))
    everything = Selector(expressions=(Requirement("app", Operator.NOT_IN),))
    for text in ("app=web", "app=", ""):
        assert not selects(nothing, labels(text))
        assert selects(everything, labels(text))
