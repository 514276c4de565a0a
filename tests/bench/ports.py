"""Ports on a real switch, and how soon the controller has their flows in it."""

from __future__ import annotations

from collections.abc import Iterator

from ovsnet.api import POD
from ovsnet.controller.results import Cause, Served
from ovsnet.model import Pod
from ovsnet.names import BRIDGE, FIRST_POD_OFFSET, host_mac, port_name
from tests.bench.controlled import RANGE, controlled, node_name


def port_seconds(count: int) -> Iterator[Served]:
    """Add `count` ports one after another to a switch of a real controller, in this process."""
    pods = [Pod("bench", f"web-{i}", f"uid-{i}", node=node_name()) for i in range(count)]
    with controlled({POD: {pod.ref: pod for pod in pods}}) as lab:
        for i, pod in enumerate(pods):
            port = port_name(pod.namespace, pod.name, pod.uid)
            mac = host_mac(RANGE[i + FIRST_POD_OFFSET])
            lab.switch.vsctl(
                *("add-port", BRIDGE, port, "--", "set", "interface", port),
                *("type=internal", f'mac="{mac}"'),
            )
            served = lab.served()
            while served.cause is not Cause.PORT:
                served = lab.served()
            yield served
