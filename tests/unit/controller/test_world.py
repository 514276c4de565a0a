"""The cluster at one moment: what is believed of it, and copies that changes are tried on."""

import copy

import msgspec
from hypothesis import given, settings
from policy_carriage import network_of, ports_of
from policy_objects import namespace, node, pod, policy, rule
from policy_strategies import clusters

from ovsnet.controller.inquiry.world import copied, snapshot, world
from ovsnet.controller.network import Network
from ovsnet.model import Phase
from ovsnet.policy.world import World, in_network

WEB = pod("shop/web", host=5)


def flows_of(network):
    return {name: dict(network.ledger(name).flows) for name in network.nodes}


@settings(max_examples=60, deadline=None)
@given(clusters())
def test_a_copy_has_the_same_flows_and_the_same_is_believed_of_it(cluster):
    network = network_of(cluster)
    seen = snapshot(network)
    copy = copied(seen)
    assert flows_of(copy) == flows_of(network)
    assert snapshot(copy) == seen


@settings(max_examples=60, deadline=None)
@given(clusters())
def test_of_pods_on_the_network_the_addresses_are_those_of_their_ports(cluster):
    found = world(snapshot(network_of(cluster)))
    assert (found.namespaces, found.nodes) == (cluster.namespaces, cluster.nodes)
    assert found.policies == cluster.policies
    for ref, before in cluster.pods.items():
        if in_network(before):
            assert found.pods[ref] == before
        else:
            assert found.pods[ref].host_network == before.host_network


def test_what_kubelet_reports_counts_until_the_switch_has_told_its_ports():
    network = Network(hash)
    network.set_nodes([node(1)])
    late = msgspec.structs.replace(WEB, addresses=())
    network.set_pods([WEB, pod("shop/away", host=9, node=2)])
    before = snapshot(network)
    network.set_ports("node-1", [])
    without_port = snapshot(network)
    network.set_ports("node-1", ports_of(World.of(pods=[WEB]), "node-1"))
    network.put_pod(late)
    with_port = snapshot(network)
    addresses = [world(s).pods[WEB.ref].addresses for s in (before, without_port, with_port)]
    assert addresses == [WEB.addresses, (), WEB.addresses]
    assert world(with_port).pods[("shop", "away")].addresses == ()
    assert not copied(before).nodes["node-1"].seen
    assert copied(with_port).nodes["node-1"].ports == with_port.nodes["node-1"].ports


def test_a_snapshot_stays_as_it_was():
    network = network_of(World.of([namespace("shop")], [WEB], [node(1)]))
    seen = snapshot(network)
    before = copy.deepcopy(seen)
    flows = flows_of(copied(seen))
    network.set_policies([policy("shop/deny", ingress=())])
    network.put_pod(msgspec.structs.replace(WEB, phase=Phase.FAILED))
    network.drop_namespace("shop")
    network.drop_node("node-1")
    assert seen == before
    assert flows_of(copied(seen)) == flows


def test_changes_of_a_copy_are_not_seen_in_the_network():
    network = network_of(World.of([namespace("shop")], [WEB], [node(1)]))
    before = flows_of(network)
    copy = copied(snapshot(network))
    copy.put_policy(policy("shop/open", ingress=[rule()]))
    copy.set_ports("node-1", [])
    assert flows_of(network) == before
    assert flows_of(copy) != before
