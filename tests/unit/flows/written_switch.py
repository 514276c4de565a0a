"""A switch in the simulator whose flows a test writes down, and a packet for it."""

from ovsnet.flows.simulator import Switch, udp
from ovsnet.flows.text import parse_flows

PORTS = (1, 2, 3, 4, 5)
PING = udp("10.0.0.1", "10.0.0.2", 1000, 53).on(3)


def switch(text: str, **more) -> Switch:
    return Switch((found.flow for found in parse_flows(text)), PORTS, **more)
