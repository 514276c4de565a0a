"""Groups in a real switch: they come with the flows that lead to them, and come back with them."""

import re

from openflow_harness import BRIDGE, Brain, Wanted, add_bridge
from session_flows import NODE, OURS, assert_right, flow, present

from ovsnet.controller.notices import Acknowledged, Compared, Lost, Synchronised
from ovsnet.controller.states import Timing
from ovsnet.flows.balance import GROUPS, choose_among
from ovsnet.flows.flow import Flow, SelectGroup, match
from ovsnet.flows.registers import SERVICE_LOW
from ovsnet.flows.text import parse_actions
from ovsnet.names import Table

OFTEN = Timing(quiet=1, dead=10, answer=30, audit=0.5, retry=0.1, retry_most=1)
COUNTS = (2, 3, 16, 17, 100, 256, 257, 4096)
GROUP = re.compile(
    r"group_id=(\d+),type=select,selection_method=dp_hash,selection_method_param=(\d+),(.*)"
)
BUCKET = re.compile(r"bucket=bucket_id:(\d+),weight:(\d+),actions=(.*?)(?=,bucket=|$)")


def balancing(number: int) -> Flow:
    """One that chooses among so many endpoints."""
    condition = match(SERVICE_LOW.matches(number))
    return Flow(Table.BALANCE, 10, condition, choose_among(number), OURS)


def groups(switch) -> set[SelectGroup]:
    """What the switch says of its groups."""
    found = set()
    for line in switch.ofctl("dump-groups", BRIDGE).splitlines()[1:]:
        group = GROUP.fullmatch(line.strip())
        assert group is not None, line
        buckets = BUCKET.findall(group[3])
        assert [int(number) for number, _, _ in buckets] == list(range(len(buckets)))
        assert {weight for _, weight, _ in buckets} == {"100"}
        actions = tuple(parse_actions(text, {}) for _, _, text in buckets)
        found.add(SelectGroup(int(group[1]), int(group[2]), actions))
    return found


def test_a_new_switch_gets_the_groups_that_its_flows_lead_to(netns, switch):
    wanted = Wanted([flow(1), *map(balancing, COUNTS)])
    with Brain(netns, {NODE: wanted}) as brain:
        add_bridge(switch, NODE)
        brain.wait(Acknowledged)
        assert_right(switch, wanted)
        assert groups(switch) == set(GROUPS)
        wanted.change(deletes=[flow(1).key])
    with Brain(netns, {NODE: wanted}) as brain:
        assert brain.wait(Acknowledged).written == 2, "one deleted, and the stamp"
        assert groups(switch) == set(GROUPS)


def test_a_known_switch_is_told_of_no_group(netns, switch):
    wanted = Wanted([flow(1), *map(balancing, COUNTS)])
    with Brain(netns, {NODE: wanted}) as brain:
        add_bridge(switch, NODE)
        brain.wait(Acknowledged)
    with Brain(netns, {NODE: wanted}) as brain:
        brain.wait(Synchronised)
        assert brain.sent < 400, "the role and a few questions; one group has thousands of octets"


def test_groups_that_are_there_may_come_again_and_again(netns, switch):
    wanted = Wanted([balancing(3)])
    with Brain(netns, {NODE: wanted}) as brain:
        add_bridge(switch, NODE)
        brain.wait(Acknowledged)
        pid = switch.switch_pid
        for count in range(4, 300, 7):
            brain.change(NODE, wanted.change([balancing(count)]))
        brain.wait(Acknowledged, lambda a: a.revision == wanted.revision)
        assert_right(switch, wanted)
        brain.change(NODE, wanted.change(deletes=list(wanted.flows)))
        brain.wait(Acknowledged, lambda a: a.revision == wanted.revision)
        assert_right(switch, wanted)
        there = {group.id for group in groups(switch)}
        brain.change(NODE, wanted.change([balancing(3)]))
        brain.wait(Acknowledged, lambda a: a.revision == wanted.revision)
        assert_right(switch, wanted)
        assert {group.id for group in groups(switch)} == there, "no group ever goes"
        assert switch.switch_pid == pid
        assert not [notice for notice in brain.notices if isinstance(notice, Lost)]


def test_groups_deleted_by_hand_come_back_with_their_flows(netns, switch):
    wanted = Wanted([flow(1), *map(balancing, COUNTS)])
    with Brain(netns, {NODE: wanted}, timing=OFTEN) as brain:
        add_bridge(switch, NODE)
        brain.wait(Acknowledged)
        switch.ofctl("del-groups", BRIDGE)
        brain.wait(Compared, lambda c: c.audit and c.missing == len(COUNTS))
        brain.wait(Acknowledged, lambda a: a.written == len(COUNTS) + 1)
        assert_right(switch, wanted)
        assert groups(switch) == set(GROUPS)


def test_what_somebody_else_made_of_a_group_is_made_right(netns, switch):
    wanted = Wanted([flow(1)])
    with Brain(netns, {NODE: wanted}) as brain:
        add_bridge(switch, NODE)
        brain.wait(Acknowledged)
        for group in GROUPS:
            switch.ofctl("add-group", BRIDGE, f"group_id={group.id},type=all,bucket=actions=drop")
        brain.change(NODE, wanted.change(map(balancing, COUNTS)))
        brain.wait(Acknowledged, lambda a: a.revision == wanted.revision)
        assert groups(switch) == set(GROUPS)


def test_a_switch_that_starts_anew_gets_groups_and_flows(netns, switch):
    wanted = Wanted([flow(1), *map(balancing, COUNTS)])
    with Brain(netns, {NODE: wanted}) as brain:
        add_bridge(switch, NODE)
        brain.wait(Acknowledged)
        switch.stop_switch()
        lost = brain.notices.index(brain.wait(Lost))
        switch.start_switch()
        brain.wait(Acknowledged, lambda a: brain.notices.index(a) > lost)
        assert_right(switch, wanted)
        assert groups(switch) == set(GROUPS)
        assert len(present(switch)) == len(COUNTS) + 1
