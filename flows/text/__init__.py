"""Flows as text, both ways, in the syntax of ovs-ofctl (OpenFlow 1.5).

>>> flow = parse_flow("table=route,priority=7,tcp,tp_dst=80 actions=drop").flow
>>> print_flow(flow)
'table=route, priority=7,tcp,tp_dst=80 actions=drop'
"""

from ovsnet.flows.text.actions import parse_actions
from ovsnet.flows.text.groups import print_group
from ovsnet.flows.text.parsing import ParsedFlow, parse_flow, parse_flows, parse_match
from ovsnet.flows.text.printing import print_actions, print_flow, print_match
from ovsnet.flows.text.values import PortNames, PortNumbers, parse_table

__all__ = [
    "ParsedFlow",
    "PortNames",
    "PortNumbers",
    "parse_actions",
    "parse_flow",
    "parse_flows",
    "parse_match",
    "parse_table",
    "print_actions",
    "print_flow",
    "print_group",
    "print_match",
]
