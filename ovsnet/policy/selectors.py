"""Label selectors (meta/v1 LabelSelector): which labels one selects."""

from __future__ import annotations

from ovsnet.model import Operator, Requirement, Selector


def selects(selector: Selector, labels: tuple[tuple[str, str], ...]) -> bool:
    """Whether the labels have everything that the selector asks for; an empty one asks nothing."""
    values = dict(labels)
    return all(values.get(key) == value for key, value in selector.labels) and all(
        _meets(requirement, values) for requirement in selector.expressions
    )


def _meets(requirement: Requirement, values: dict[str, str]) -> bool:
    value = values.get(requirement.key)
    match requirement.operator:
        case Operator.IN:
            return value is not None and value in requirement.values
        case Operator.NOT_IN:
            return value is None or value not in requirement.values
        case Operator.EXISTS:
            return value is not None
        case Operator.DOES_NOT_EXIST:
            return value is None
