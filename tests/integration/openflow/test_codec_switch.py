"""What we encode, Open vSwitch takes; what it dumps, we decode to the same values."""

import pytest
import served_pipeline
from flow_strategies import flow_sets
from flow_switch import flow_switch
from hypothesis import HealthCheck, given, settings
from openflow_wire import SwitchRefusedError, Wire

from ovsnet.controller.openflow import decode, encode
from ovsnet.controller.openflow.decode import ForeignFlow
from ovsnet.controller.openflow.groups import groups_for
from ovsnet.flows.fields import CtState, EthType, Field
from ovsnet.flows.flow import Ct, Flow, Goto, Output, SetField, match, term
from ovsnet.names import BRIDGE, Table


@pytest.fixture(scope="module")
def switch():
    with flow_switch("codec") as found:
        found.add_groups()
        yield found


@pytest.fixture
def wire(switch):
    with Wire(switch.ovs.management_socket(BRIDGE)) as found:
        yield found
        switch.ovs.ofctl("del-flows", BRIDGE)


def dumped(wire: Wire) -> list[Flow | ForeignFlow]:
    return [flow for part in wire.dump() for flow in decode.flows(part)]


def commits_what_is_invalid(flow: Flow) -> bool:
    """Open vSwitch refuses to commit connections of which the match says that they are invalid."""
    state = next((t for t in flow.match if t.field is Field.CT_STATE), None)
    commits = any(isinstance(action, Ct) and action.commit for action in flow.actions)
    return commits and state is not None and bool(state.value & CtState.INV)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(flow_sets(max_size=40))
def test_every_flow_comes_back_as_it_went_in(switch, generated):
    generated = tuple(flow for flow in generated if not commits_what_is_invalid(flow))
    with Wire(switch.ovs.management_socket(BRIDGE)) as wire:
        wire.bundle(encode.flow_adds(generated))
        found = {flow.key: flow for flow in dumped(wire)}
        count = wire.count()
        wire.bundle(encode.flow_deletes(found))
        assert found == {flow.key: flow for flow in generated}
        assert count == len(generated)
        assert wire.count() == 0


STRANGERS = (
    "table=9,priority=5,metadata=0x1,actions=drop",
    "table=9,priority=6,vlan_vid=0x1005/0x1fff,actions=pop_vlan,NORMAL",
    "table=200,priority=7,ip,actions=drop",
    "table=9,priority=8,ip,actions=write_actions(output:3)",
    "table=9,priority=9,ip,idle_timeout=600,actions=drop",
    "table=9,priority=10,ip,send_flow_rem,actions=drop",
    "table=9,priority=11,actions=learn(table=10,NXM_OF_VLAN_TCI[0..11],output:NXM_OF_IN_PORT[])",
    "table=9,priority=12,ip,nw_tos=4,actions=controller(max_len=10)",
    "table=9,priority=13,xreg7=0x5/0xff,actions=set_field:5->xreg1",
    "table=9,priority=14,ip,ct_state=+trk,actions=ct(table=10,zone=NXM_NX_REG0[0..15])",
    "table=9,priority=15,tcp,actions=ct(commit,alg=ftp)",
    "table=9,priority=16,ip,actions=ct(commit,nat(src=10.0.0.1-10.0.0.9,random))",
    "table=9,priority=17,actions=multipath(eth_src,50,modulo_n,1,0,NXM_NX_REG0[])",
    "table=9,priority=18,actions=note:01.02.03.04.05.06",
    "table=9,priority=19,actions=clone(output:3),push:NXM_NX_REG0[],pop:NXM_NX_REG1[]",
    "table=9,priority=20,tun_metadata0=0x5,actions=drop",
    *(
        f"table=9,priority={priority},ip,actions=learn(table=6,{learnt})"
        for priority, learnt in enumerate(
            (
                "reg4=5,load:1->reg8",
                "limit=5,hard_timeout=5,reg4=5,load:1->reg8",
                "limit=5,fin_idle_timeout=5,reg4=5,load:1->reg8",
                "limit=5,send_flow_rem,reg4=5,load:1->reg8",
                "limit=5,delete_learned,reg4=5,load:1->reg8",
                "limit=5,result_dst=reg0[0],reg4=5,load:1->reg8",
                "limit=5,reg4[0..7]=5,load:1->reg8",
                "limit=5,reg4=reg5,load:1->reg8",
                "limit=5,reg4[0..7],load:1->reg8",
                "limit=5,reg4=5",
                "limit=5,reg4=5,load:1->reg8,load:2->reg7",
                "limit=5,reg4=5,load:reg3->reg8",
                "limit=5,reg4=5,output:NXM_OF_IN_PORT[]",
                "limit=5,NXM_OF_IN_PORT[],load:1->reg8",
            ),
            21,
        )
    ),
)


def test_strangers_can_all_be_read_and_deleted_and_none_passes_for_one_of_ours(switch, wire):
    switch.ovs.ofctl("add-tlv-map", BRIDGE, "{class=0xffff,type=0,len=4}->tun_metadata0")
    for text in STRANGERS:
        switch.ovs.ofctl("add-flow", BRIDGE, text)
    found = dumped(wire)
    assert len(found) == len(STRANGERS)
    assert all(isinstance(flow, ForeignFlow) for flow in found)
    deletes = [encode.raw_delete(flow.table, flow.priority, flow.match) for flow in found]
    wire.bundle(b"".join(deletes))
    assert not dumped(wire)


def test_a_bundle_that_cannot_be_committed_changes_nothing(wire):
    good = Flow(Table.ROUTE, 1, (), (Goto(Table.OUTPUT),))
    wire.bundle(encode.flow_adds([good]))
    lacking = Flow(Table.ROUTE, 2, (), (SetField(Field.TCP_DST, 5), Output(1)))
    with pytest.raises(SwitchRefusedError) as refused:
        wire.bundle(encode.flow_deletes([good.key]) + encode.flow_adds([lacking]))
    about = decode.refused_flow(refused.value.data)
    assert about is not None
    assert (about.table, about.priority) == (Table.ROUTE, 2)


def test_20000_flows_go_in_as_one_and_out_as_one(wire):
    family = term(Field.ETH_TYPE, EthType.IPV4)
    many = [
        Flow(Table.ROUTE, 10, match(family, term(Field.IPV4_DST, n)), (Goto(Table.OUTPUT),), n)
        for n in range(20_000)
    ]
    wire.bundle(encode.flow_adds(many))
    assert set(dumped(wire)) == set(many)
    wire.bundle(encode.flow_deletes(flow.key for flow in many))
    assert wire.count() == 0


def test_flows_of_a_node_with_services_of_every_sort_are_read_as_they_were_written(wire):
    flows = served_pipeline.served_flows()
    wire.bundle(b"".join(groups_for(flows)) + encode.flow_adds(flows))
    assert set(dumped(wire)) == set(flows)
