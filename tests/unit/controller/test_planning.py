"""What policies would change, before anything is."""

from ipaddress import ip_address

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_carriage import network_of
from policy_objects import namespace, node, peer, pod, policy, port, rule
from policy_strategies import clusters, traffics
from service_objects import endpoint_slice, service

from ovsnet.controller.inquiry.plan import Action, Cut, FlowChanges, Shift, Silent
from ovsnet.controller.inquiry.planning import plan
from ovsnet.controller.inquiry.questions import Proposal
from ovsnet.controller.inquiry.world import snapshot
from ovsnet.controller.live import LiveConnection
from ovsnet.model import Fault, Protocol
from ovsnet.policy.evaluate import evaluate
from ovsnet.policy.spans import Ports, Span
from ovsnet.policy.world import World

PODS = [
    pod("shop/web", "app=web", host=5),
    pod("shop/db", "app=db", node=2, host=6),
    pod("bank/vault", node=3, host=7),
]
NODES = [node(1), node(2), node(3)]
SPACES = [namespace("shop"), namespace("bank")]
DENY = policy("shop/deny", "app=db", ingress=())
OPEN = policy("shop/open", "app=db", ingress=[rule([peer("app=web")], [port(5432)])])
EVERYTHING = (
    *(Ports(protocol, (Span(0, 65535),)) for protocol in Protocol),
    Ports(None),
)


def seen_with(*policies):
    network = network_of(World.of(SPACES, PODS, NODES, policies))
    return network, snapshot(network)


def nobody_asked(nodes, seconds):
    raise AssertionError(f"{nodes} were asked")


class Nodes:
    """Nodes that are asked for their connections."""

    def __init__(self, **told):
        self.told = {name.replace("_", "-"): connections for name, connections in told.items()}
        self.asked = []

    def __call__(self, nodes, seconds):
        self.asked += nodes
        return {name: self.told.get(name, ()) for name in nodes}


def to_db(source, number, protocol=6):
    return live(source, "10.244.2.6", number, protocol)


def live(source, destination, number, protocol=6):
    ends = ip_address(source), ip_address(destination)
    return LiveConnection(protocol, *ends, 40000, number)


def test_isolating_a_pod_denies_it_to_everybody_and_asks_its_node_alone():
    _, seen = seen_with()
    nodes = Nodes()
    found = plan(seen, Proposal((DENY,)), nodes)
    assert [(p.name, p.action, p.pods, p.faults) for p in found.policies] == [
        ("shop/deny", Action.CREATED, 1, ())
    ]
    assert found.allowed == ()
    assert set(found.denied) == {
        Shift(("bank/vault", "shop/web"), ("shop/db",), 2, ("IPv4", "IPv6"), EVERYTHING),
        Shift(("0.0.0.0/0",), ("shop/db",), 1, ("IPv4",), EVERYTHING),
        Shift(("::/0",), ("shop/db",), 1, ("IPv6",), EVERYTHING),
    }
    assert nodes.asked == ["node-2"]
    assert found.flows == (FlowChanges("node-2", 4, 0, 0),)


def test_services_make_no_difference_to_the_flows_that_would_change():
    """The copy on which the policies are tried has none of theirs, and no policy changes those."""
    network, seen = seen_with(OPEN)
    network.put_service(service("shop/db", "sql=80"))
    network.put_slice(endpoint_slice("shop/db", ["sql=5432"], "10.244.1.5", "10.244.2.6"))
    served = snapshot(network)
    assert served != seen
    for proposal in (Proposal((DENY,)), Proposal((OPEN,), delete=True)):
        assert plan(served, proposal, Nodes()) == plan(seen, proposal, Nodes())
    flows = {name: len(network.ledger(name).flows) for name in network.nodes}
    network.drop_policy(OPEN.ref)
    (changes,) = plan(served, Proposal((OPEN,), delete=True), Nodes()).flows
    now = {name: len(network.ledger(name).flows) for name in network.nodes}
    assert now == flows | {changes.node: flows[changes.node] + changes.added - changes.deleted}


def test_a_rule_opens_what_it_says():
    _, seen = seen_with(DENY)
    found = plan(seen, Proposal((OPEN,)), nobody_asked)
    assert found.denied == found.cut == ()
    assert found.allowed == (
        Shift(
            ("shop/web",), ("shop/db",), 1, ("IPv4", "IPv6"),
            (Ports(Protocol.TCP, (Span(5432, 5432),)),),
        ),
    )  # fmt: skip


def test_deleting_the_last_policy_opens_everything():
    _, seen = seen_with(OPEN)
    gone = policy("shop/never-there", ingress=())
    found = plan(seen, Proposal((OPEN, gone), delete=True), nobody_asked)
    assert [(p.name, p.action, p.pods) for p in found.policies] == [
        ("shop/open", Action.DELETED, 1),
        ("shop/never-there", Action.ABSENT, 0),
    ]
    assert {str(t) for shift in found.allowed for t in shift.traffic} >= {"UDP", "SCTP"}
    assert found.flows == (FlowChanges("node-2", 0, 0, 11),)


def test_a_policy_that_is_there_already_changes_nothing():
    _, seen = seen_with(DENY, OPEN)
    same = msgspec.structs.replace(OPEN, uid="")
    found = plan(seen, Proposal((same,)), nobody_asked)
    assert [p.action for p in found.policies] == [Action.UNCHANGED]
    assert (found.allowed, found.denied, found.flows) == ((), (), ())


def test_the_later_of_two_policies_of_one_name_counts():
    _, seen = seen_with()
    other = msgspec.structs.replace(DENY, pods=OPEN.pods, ingress=(rule(),))
    found = plan(seen, Proposal((DENY, other)), nobody_asked)
    assert [(p.name, p.action) for p in found.policies] == [("shop/deny", Action.CREATED)]
    assert (found.allowed, found.denied) == ((), ())


def test_another_port_of_a_rule_changes_flows_on_the_nodes_of_its_pods():
    _, seen = seen_with(OPEN)
    other = msgspec.structs.replace(OPEN, ingress=(rule([peer("app=web")], [port(5433)]),))
    found = plan(seen, Proposal((other,)), Nodes())
    assert [p.action for p in found.policies] == [Action.CHANGED]
    assert [[str(t) for t in s.traffic] for s in found.allowed] == [["TCP 5433"]]
    assert [[str(t) for t in s.traffic] for s in found.denied] == [["TCP 5432"]]
    (changes,) = found.flows
    assert changes.node == "node-2"
    assert changes.added > 0
    assert changes.deleted > 0


def test_faults_are_shown():
    _, seen = seen_with()
    fault = Fault("spec.ingress[0].colour", "unknown field")
    found = plan(seen, Proposal((msgspec.structs.replace(DENY, faults=(fault,)),)), Nodes())
    assert found.policies[0].faults == (fault,)


def test_live_connections_that_lose_their_permission_are_cut_and_no_others():
    _, seen = seen_with()
    going_on = to_db("10.244.1.5", 5432)
    cut = [to_db("10.244.1.5", 22), to_db("203.0.113.7", 5432), to_db("10.244.3.7", 0, 1)]
    own_node = to_db("10.244.2.1", 22)
    elsewhere = live("10.244.1.5", "10.244.3.7", 80)
    nodes = Nodes(node_2=[going_on, *cut, own_node, elsewhere, cut[0]])
    found = plan(seen, Proposal((OPEN,)), nodes)
    assert found.cut == (
        Cut("tcp", "10.244.1.5", "10.244.2.6", 22, "shop/web", "shop/db"),
        Cut("icmp", "10.244.3.7", "10.244.2.6", None, "bank/vault", "shop/db"),
        Cut("tcp", "203.0.113.7", "10.244.2.6", 5432, "", "shop/db"),
    )
    assert found.silent == ()


def test_a_connection_that_was_forbidden_before_is_not_cut_by_this():
    _, seen = seen_with(DENY)
    stays = Nodes(node_1=[to_db("10.244.1.5", 22)])
    found = plan(seen, Proposal((policy("shop/quiet", "app=web", egress=()),)), stays)
    assert stays.asked == ["node-1"]
    assert found.cut == ()


def test_a_connection_that_both_its_nodes_tell_of_is_one():
    _, seen = seen_with()
    both = to_db("10.244.1.5", 22)
    proposal = Proposal((policy("shop/all", ingress=(), egress=()),))
    nodes = Nodes(node_1=[both], node_2=[both])
    found = plan(seen, proposal, nodes)
    assert nodes.asked == ["node-1", "node-2"]
    assert len(found.cut) == 1


def test_deleting_a_policy_may_cut_what_it_alone_allowed():
    _, seen = seen_with(DENY, OPEN)
    nodes = Nodes(node_2=[to_db("10.244.1.5", 5432)])
    found = plan(seen, Proposal((OPEN,), delete=True), nodes)
    assert nodes.asked == ["node-2"]
    assert [(c.source_pod, c.port) for c in found.cut] == [("shop/web", 5432)]


def test_a_node_that_does_not_tell_is_named():
    _, seen = seen_with()
    found = plan(seen, Proposal((DENY,)), Nodes(node_2="no answer for 5 s"))
    assert found.silent == (Silent("node-2", "no answer for 5 s"),)
    assert found.cut == ()


@st.composite
def proposals(draw):
    """A cluster, some of whose policies are there, and others of which are proposed."""
    cluster = draw(clusters())
    there = [p for p in cluster.policies.values() if draw(st.booleans())]
    proposed = [p for p in cluster.policies.values() if draw(st.booleans())]
    others = draw(clusters(max_policies=2)).policies.values()
    delete = draw(st.booleans())
    known = msgspec.structs.replace(cluster, policies={p.ref: p for p in there})
    tried = draw(st.lists(traffics(cluster), max_size=8))
    return known, Proposal((*proposed, *others), delete), tried


@settings(max_examples=150, deadline=None)
@given(proposals())
def test_a_plan_is_what_happens_then(drawn):
    """Flow changes are those of the ledgers, and what is cut is what is denied then."""
    known, proposal, tried = drawn
    network = network_of(known)
    seen = snapshot(network)
    before = {name: dict(network.ledger(name).flows) for name in network.nodes}
    alive = [LiveConnection(t.protocol, t.source, t.destination, 9, t.port or 0) for t in tried]
    found = plan(seen, proposal, lambda nodes, seconds: dict.fromkeys(nodes, alive))
    assert {n: dict(network.ledger(n).flows) for n in network.nodes} == before, "nothing changes"
    for each in proposal.policies:
        if proposal.delete:
            network.drop_policy(each.ref)
        else:
            network.put_policy(each)
    wanted = {}
    for name, old in before.items():
        new = network.ledger(name).flows
        common = old.keys() & new.keys()
        changed = sum(old[key] != new[key] for key in common)
        counts = (len(new) - len(common), changed, len(old) - len(common))
        if any(counts):
            wanted[name] = FlowChanges(name, *counts)
    assert {each.node: each for each in found.flows} == wanted
    after = msgspec.structs.replace(known, policies=dict(network.policies))
    cut = {
        (str(t.source), str(t.destination), t.port)
        for t in tried
        if evaluate(known, t).allowed and not evaluate(after, t).allowed
    }
    assert {(c.source, c.destination, c.port) for c in found.cut} == cut
    assert bool(cut) <= bool(found.denied)
