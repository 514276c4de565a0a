"""Only ports of the range that nodes hand on to their switch are services' node ports."""

from __future__ import annotations

import pytest
from service_objects import service

from ovsnet.controller.services.nodeports import within
from ovsnet.names import NODE_PORTS, port_range, port_range_text

WORDS = "expected a port of nodes from 20000 to 20100 (node_ports); it is left out"


@pytest.mark.parametrize("port", [0, 20000, 20100])
def test_what_is_in_the_range_stays_as_it_is(port):
    inside = service("shop/api", f"http=80@{port}", health_check=port)
    assert within(inside, (20000, 20100)) is inside


@pytest.mark.parametrize("port", [1, 19999, 20101, 30000, 65535])
def test_what_is_not_is_left_out_and_told_and_the_rest_stays(port):
    given = service("shop/api", f"http=80@{port}", "dns=53@20053", health_check=port)
    found = within(given, (20000, 20100))
    assert found.ports == service("shop/api", "http=80", "dns=53@20053").ports
    assert found.health_check == 0
    assert [(f.field, f.reason) for f in found.faults] == [
        ("spec.ports", f"{port}: {WORDS}"),
        ("spec.healthCheckNodePort", f"{port}: {WORDS}"),
    ]


def test_a_range_as_it_is_written():
    assert port_range("1-65535") == (1, 65535)
    assert port_range(port_range_text(NODE_PORTS)) == NODE_PORTS


@pytest.mark.parametrize("text", ["", "none", "30000", "0-5", "7-6", "1-65536", "1-2-3", "a-b"])
def test_what_is_no_range(text):
    with pytest.raises(ValueError, match="expected FIRST-LAST, as in 30000-32767"):
        port_range(text)
