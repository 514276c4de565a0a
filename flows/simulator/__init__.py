"""What a set of flows does to a packet, without a switch.

>>> from ovsnet.flows.text import parse_flow
>>> lines = "table=classify,in_port=3,tcp actions=dec_ttl,output:4", "table=classify actions=drop"
>>> switch = Switch((parse_flow(line).flow for line in lines), ports=(3, 4))
>>> trace = switch.trace(tcp("10.0.0.2", "10.0.1.2", 40000, 80).on(3))
>>> trace.verdict, trace.deliveries[0].packet[Field.IP_TTL]
('sent to 4', 63)
"""

from ovsnet.flows.fields import Field
from ovsnet.flows.simulator.conntrack import (
    Connection,
    Connections,
    Ends,
    Foreseen,
    Tracker,
)
from ovsnet.flows.simulator.group import GroupEntry, GroupKind, selecting
from ovsnet.flows.simulator.packet import (
    Packet,
    advertisement,
    arp,
    echo,
    icmp,
    ip,
    solicitation,
    tcp,
    udp,
)
from ovsnet.flows.simulator.switch import Switch
from ovsnet.flows.simulator.trace import Choice, Delivery, Loss, Pass, Reason, Step, Trace

__all__ = [
    "Choice",
    "Connection",
    "Connections",
    "Delivery",
    "Ends",
    "Field",
    "Foreseen",
    "GroupEntry",
    "GroupKind",
    "Loss",
    "Packet",
    "Pass",
    "Reason",
    "Step",
    "Switch",
    "Trace",
    "Tracker",
    "advertisement",
    "arp",
    "echo",
    "icmp",
    "ip",
    "selecting",
    "solicitation",
    "tcp",
    "udp",
]
