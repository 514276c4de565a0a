"""Label selectors (meta/v1 LabelSelector)."""

from __future__ import annotations

import functools
import re
from typing import Final

from ovsnet.api.members import entries, members, shown
from ovsnet.model import Fault, Operator, Requirement, Selector

_SELECTOR: Final = ("matchLabels", "matchExpressions")
_REQUIREMENT: Final = ("key", "operator", "values")
_OPERATORS: Final = {str(operator): operator for operator in Operator}
_WITH_VALUES: Final = frozenset({Operator.IN, Operator.NOT_IN})
_NAME: Final = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_DOMAIN: Final = (
    r"(?=.{1,253}/)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*"
)
_KEY: Final = re.compile(f"(?:{_DOMAIN}/)?{_NAME}")
_VALUE: Final = re.compile(f"(?:{_NAME})?")


def selector(value: object, path: str, faults: list[Fault]) -> Selector:
    """The model's value of a LabelSelector. Of no use, and not to be used, if there are faults.

    Keys and values must be such as labels can have (Kubernetes documentation, "Labels and
    Selectors"). Otherwise nothing has the label, and NotIn and DoesNotExist select everything.
    """
    fields = members(value, path, _SELECTOR, faults)
    if fields is None:
        return Selector()
    labels: dict[str, str] = {}
    where = f"{path}.matchLabels"
    wanted = fields.get("matchLabels")
    if wanted is not None and not isinstance(wanted, dict):
        faults.append(Fault(where, f"{shown(wanted)}: expected labels"))
    elif wanted:
        for key, text in wanted.items():
            if _is_key(key, where, faults) and _is_value(text, where, faults):
                labels[key] = text
    expressions: set[Requirement] = set()
    if fields.get("matchExpressions") is not None:
        place = f"{path}.matchExpressions"
        for i, item in enumerate(entries(fields["matchExpressions"], place, faults)):
            requirement = _requirement(item, f"{place}[{i}]", faults)
            if requirement is not None:
                expressions.add(requirement)
    return _shared(tuple(sorted(labels.items())), tuple(sorted(expressions)))


def _requirement(value: object, path: str, faults: list[Fault]) -> Requirement | None:
    before = len(faults)
    fields = members(value, path, _REQUIREMENT, faults)
    if fields is None:
        return None
    key = fields.get("key", "")
    _is_key(key, f"{path}.key", faults)
    name = fields.get("operator", "")
    operator = _OPERATORS.get(name) if isinstance(name, str) else None
    if operator is None:
        expected = f"expected one of {', '.join(_OPERATORS)}"
        faults.append(Fault(f"{path}.operator", f"{shown(name)}: {expected}"))
    place = f"{path}.values"
    values = [
        text
        for i, text in enumerate(entries(fields.get("values"), place, faults))
        if _is_value(text, f"{place}[{i}]", faults)
    ]
    if len(faults) > before or operator is None:
        return None
    if bool(values) != (operator in _WITH_VALUES):
        expected = "at least one value" if operator in _WITH_VALUES else "no values"
        faults.append(Fault(f"{path}.values", f"expected {expected} with {operator}"))
        return None
    return Requirement(key, operator, tuple(sorted(set(values))))


def _is_key(key: object, path: str, faults: list[Fault]) -> bool:
    if isinstance(key, str) and _matches(_KEY, key):
        return True
    faults.append(Fault(path, f"{shown(key)}: expected the key of a label, such as app"))
    return False


def _is_value(text: object, path: str, faults: list[Fault]) -> bool:
    if isinstance(text, str) and _matches(_VALUE, text):
        return True
    faults.append(Fault(path, f"{shown(text)}: expected the value of a label, such as web"))
    return False


@functools.lru_cache(maxsize=4096)
def _matches(pattern: re.Pattern[str], text: str) -> bool:
    return pattern.fullmatch(text) is not None


@functools.lru_cache(maxsize=4096)
def _shared(labels: tuple[tuple[str, str], ...], expressions: tuple[Requirement, ...]) -> Selector:
    """The same value for selectors that say the same: policies share theirs."""
    return Selector(labels, expressions)
