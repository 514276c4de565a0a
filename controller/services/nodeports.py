"""Which ports of the nodes services may have: those that nodes hand on to their switch."""

from __future__ import annotations

import msgspec

from ovsnet.model import Fault, Service
from ovsnet.names import PortRange


def within(service: Service, node_ports: PortRange) -> Service:
    """The service without the ports of nodes that are not in this range, and a fault for each."""
    first, last = node_ports
    faults: list[Fault] = []

    def kept(number: int, field: str) -> int:
        if number == 0 or first <= number <= last:
            return number
        expected = f"expected a port of nodes from {first} to {last} (node_ports)"
        faults.append(Fault(field, f"{number}: {expected}; it is left out"))
        return 0

    # Which of the object's ports it is cannot be told: those with other faults are left out.
    ports = tuple(
        msgspec.structs.replace(port, node_port=kept(port.node_port, "spec.ports"))
        for port in service.ports
    )
    health_check = kept(service.health_check, "spec.healthCheckNodePort")
    if not faults:
        return service
    return msgspec.structs.replace(
        service, ports=ports, health_check=health_check, faults=(*service.faults, *faults)
    )
