"""Whether compiled flows do with a call what the evaluator says, and carry what follows it: the
answer, what the client sends then, and errors about either.

What is beyond a gateway port is played as the agent sets it up: calls of node ports come with the
node port address, and what is to be refused is answered with a TCP reset or "port unreachable".
"""

from __future__ import annotations

from msgspec.structs import replace
from policy_carriage import CLIENT_PORT
from service_carriage import Arrival, Choices, Journey, ServiceCarriage, between, ends, ends_of

from ovsnet.flows.fields import EthType, Field
from ovsnet.flows.simulator import Packet, icmp
from ovsnet.flows.simulator.packet import ACK, SYN
from ovsnet.flows.terms import mac
from ovsnet.model import IPAddress, Protocol
from ovsnet.names import (
    GATEWAY_OFFSET,
    GATEWAY_OFPORT,
    HEALTHY_PORT,
    NODE_PORT_OFFSET,
    NODE_PORTS,
    POLICY_ZONE,
    ROUTER_MAC,
    SERVICE_ZONE,
    SOURCE_ZONE,
    UNHEALTHY_PORT,
)
from ovsnet.services.evaluate import (
    OK,
    Dropped,
    HealthChecked,
    NotAService,
    Refused,
    Served,
    evaluate,
    evaluate_again,
)
from ovsnet.services.world import Call, Endpoint, Whence, World

RST = 0x04
_CONVERSATIONS = 4
"""With how many endpoints of a call there is a conversation: it is the same with all of them."""

_ZONES = {
    (SERVICE_ZONE, SERVICE_ZONE, *source, POLICY_ZONE, *there)
    for source in ((), (SOURCE_ZONE,))
    for there in ((), (POLICY_ZONE,))
}
"""The trackers that a connection's first packet may pass: that of services finds that it does not
know it, and then translates it; the last one is on the endpoint's node, if that is another one.
"""

_TOO_BIG = {4: (3, 4), 6: (2, 0)}
_PORT_UNREACHABLE = {4: (3, 3), 6: (1, 4)}


def as_it_comes(world: World, call: Call) -> Call | None:
    """A call as it meets the switch. None if it does not: what a node itself gets for its own
    addresses it keeps, but for node ports, and what it gets for other nodes' goes past the switch.
    """
    if call.client.whence is Whence.POD:
        return call
    node = world.nodes[call.client.node]
    if call.destination in node.addresses:
        if call.port is None or not NODE_PORTS[0] <= call.port <= NODE_PORTS[1]:
            return None
        return replace(call, destination=_own(world, call, NODE_PORT_OFFSET))
    if any(call.destination in other.addresses for other in world.nodes.values()):
        return None
    return call


def _own(world: World, call: Call, offset: int) -> IPAddress:
    """An address of the client's node on the pod network, of the call's family."""
    version = call.client.address.version
    ranges = world.nodes[call.client.node].pod_cidrs
    return next(r[offset] for r in ranges if r.version == version)


def disagreement(carriage: ServiceCarriage, call: Call) -> str | None:
    """What the flows do otherwise than the evaluator says."""
    try:
        _agree(carriage, call)
    except AssertionError as wrong:
        outcome = evaluate(carriage.services, call)
        return f"{call}: {outcome}: {str(wrong) or repr(wrong)}"
    return None


def _agree(carriage: ServiceCarriage, call: Call) -> None:
    outcome = evaluate(carriage.services, call)
    match outcome:
        case NotAService():
            _as_without_services(carriage, call)
        case Refused():
            _refused(carriage, call)
        case Dropped():
            for way in _ways(carriage, call):
                arrivals = carriage.alone().carry(*opening(carriage, call), way).arrivals
                assert not arrivals, f"arrived at {arrivals}"
        case HealthChecked():
            port = HEALTHY_PORT if outcome.status == OK else UNHEALTHY_PORT
            gateway = Endpoint(_own(carriage.services, call, GATEWAY_OFFSET), port)
            _served(carriage, call, frozenset({gateway}), frozenset(), frozenset())
        case Served():
            _served(carriage, call, outcome.endpoints, outcome.kept, outcome.hidden)


def opening(
    carriage: ServiceCarriage, call: Call, *, port: int = CLIENT_PORT, flags: int = SYN
) -> tuple[str, int, Packet]:
    """Where a packet of a call enters, and the packet; the first one, from the usual port, unless
    others are given.
    """
    client, called = ends_of(call)
    if call.protocol is not None:
        client = client._replace(port=port)
    return *carriage.door(call.client), between(call.protocol, client, called, flags)


def _ways(carriage: ServiceCarriage, call: Call) -> list[Choices]:
    return carriage.ways(*opening(carriage, call))


def _as_without_services(carriage: ServiceCarriage, call: Call) -> None:
    """Nothing that services do concerns the call, nor its answer, nor an error about it. Only what
    a node sends to its node port address is refused.
    """
    if call.destination == _own(carriage.services, call, NODE_PORT_OFFSET):
        _refused(carriage, call)
        return
    one, other = carriage.alone(), carriage.plain.alone()
    with_, without = (each.carry(*opening(carriage, call)) for each in (one, other))
    assert with_ == without, f"{with_.arrivals} and without services {without.arrivals}"
    assert set(with_.zones) <= {POLICY_ZONE}, f"passes zones {with_.zones}"
    for arrival in with_.arrivals:
        if arrival.refused:
            continue
        no = error(call.destination, arrival.packet, _TOO_BIG)
        _only(one, call, one.carry(*arrival.where, no).arrivals)
        if call.protocol is not None:
            back = answer(call.protocol, arrival.packet)
            after, before = (each.carry(*arrival.where, back) for each in (one, other))
            assert after == before, f"{after.arrivals} and without services {before.arrivals}"
            _only(one, call, after.arrivals)


def _refused(carriage: ServiceCarriage, call: Call) -> None:
    """The client's node is asked to refuse it, and the client hears of that: through the switch, or
    from the node itself if the client is beyond it.
    """
    alone = carriage.alone()
    client, called = ends_of(call)
    for _ in range(2):
        journey = alone.carry(*opening(carriage, call))
        assert not journey.choices, "an endpoint is looked for"
        arrival = _one(journey)
        assert arrival.refused, f"{arrival} is not refused"
        assert arrival.node == call.client.node
        source, destination = ends(arrival.packet)
        assert destination == called, f"{destination} is refused"
        if call.client.whence is Whence.OUTSIDE:
            assert source == client, f"{source} is refused"
            assert set(journey.zones) <= {SERVICE_ZONE}, f"passes zones {journey.zones}"
            continue
        if call.protocol is Protocol.TCP:
            no = between(call.protocol, destination, source, RST | ACK)
        else:
            gateway = _own(carriage.services, call, GATEWAY_OFFSET)
            no = error(gateway, arrival.packet, _PORT_UNREACHABLE)
        told = _only(alone, call, alone.carry(*arrival.where, no).arrivals)
        if call.protocol is Protocol.TCP:
            assert ends(told) == (called, client)
        else:
            assert ends(told)[1].address == client.address
            assert told.quoted is not None
            assert ends(told.quoted) == (client, called)


def _served(
    carriage: ServiceCarriage,
    call: Call,
    endpoints: frozenset[Endpoint],
    kept: frozenset[Endpoint],
    hidden: frozenset[Endpoint],
) -> None:
    """Every one of the endpoints may take it and no other, and can answer."""
    reached: set[Endpoint] = set()
    for way in _ways(carriage, call):
        alone = carriage.alone()
        journey = alone.carry(*opening(carriage, call), way)
        arrival = _one(journey)
        seen, endpoint = ends(arrival.packet)
        reached.add(endpoint)
        assert endpoint in endpoints, f"reached {endpoint}"
        assert endpoint not in kept or seen.address == call.client.address, f"sees {seen}"
        assert endpoint not in hidden or seen.address != call.client.address, f"sees {seen}"
        assert journey.zones in _ZONES, f"passes zones {journey.zones}"
        assert arrival.where == _place(alone, call, endpoint.address), f"arrived at {arrival.where}"
        if len(reached) <= _CONVERSATIONS:
            _converse(alone, call, arrival)
            _call_again(alone, call, endpoint)
    assert reached == endpoints, f"reached {sorted(map(str, reached))} only"


def _one(journey: Journey) -> Arrival:
    assert len(journey.arrivals) == 1, f"arrived at {journey.arrivals}"
    return journey.arrivals[0]


def _place(carriage: ServiceCarriage, call: Call, address: IPAddress) -> tuple[str, int]:
    """Where an endpoint is: a pod's port; or the gateway port, of the node that has the address in
    its pod range, and for all others of the client's.
    """
    if address in carriage.places:
        return carriage.places[address]
    nodes = carriage.services.nodes.values()
    home = (n.name for n in nodes if any(address in r for r in n.pod_cidrs))
    return next(home, call.client.node), GATEWAY_OFPORT


def _converse(carriage: ServiceCarriage, call: Call, arrival: Arrival) -> None:
    """Answers, later packets and errors find their ways, by the same addresses."""
    client, called = ends_of(call)
    first, there = opening(carriage, call), arrival.where
    seen = ends(arrival.packet)
    _expect_mac(carriage, arrival)

    def again(packet: Packet, why: str) -> None:
        journey = carriage.carry(*first[:2], packet)
        assert not journey.choices, f"another endpoint is looked for, for {why}"
        assert [a.where for a in journey.arrivals] == [there], f"{why}: {journey.arrivals}"
        assert ends(journey.arrivals[0].packet) == seen, f"{why}: {journey.arrivals}"

    assert call.protocol is not None
    again(first[2], "the same packet once more")
    _error_comes_back(carriage, call, arrival)
    back = _only(
        carriage, call, carriage.carry(*there, answer(call.protocol, arrival.packet)).arrivals
    )
    assert ends(back) == (called, client), f"the answer comes from {ends(back)}"
    again(opening(carriage, call, flags=ACK)[2], "the second packet")
    _error_comes_back(carriage, call, arrival)
    # The client, or somebody on its side, could not take the answer.
    journey = carriage.carry(*first[:2], error(client.address, back, _TOO_BIG, called.address))
    assert [a.where for a in journey.arrivals] == [there], f"an error: {journey.arrivals}"
    told = journey.arrivals[0].packet
    assert ends(told)[1].address == seen[1].address
    assert told.quoted is not None
    assert ends(told.quoted) == seen[::-1], f"an error quotes {ends(told.quoted)}"


def _call_again(carriage: ServiceCarriage, call: Call, earlier: Endpoint) -> None:
    """The next connection of the client reaches whom it may reach."""
    outcome = evaluate_again(carriage.services, call, earlier)
    if not isinstance(outcome, Served):
        return
    journey = carriage.carry(*opening(carriage, call, port=CLIENT_PORT + 1))
    endpoint = ends(_one(journey).packet)[1]
    assert endpoint in outcome.endpoints, f"after {earlier} {endpoint} is called"
    assert len(outcome.endpoints) > 1 or not journey.choices, "another endpoint is looked for"


def _error_comes_back(carriage: ServiceCarriage, call: Call, arrival: Arrival) -> None:
    """The endpoint, or somebody on its side, could not take the client's packet."""
    _, endpoint = ends(arrival.packet)
    no = error(endpoint.address, arrival.packet, _TOO_BIG)
    told = _only(carriage, call, carriage.carry(*arrival.where, no).arrivals)
    assert ends(told)[1].address == call.client.address
    assert told.quoted is not None
    assert ends(told.quoted) == ends_of(call), f"an error quotes {ends(told.quoted)}"


def _only(carriage: ServiceCarriage, call: Call, arrivals: tuple[Arrival, ...]) -> Packet:
    """What has come back to the client, and nowhere else."""
    door = carriage.door(call.client)
    assert [a.where for a in arrivals] == [door], f"came back to {arrivals}"
    _expect_mac(carriage, arrivals[0])
    return arrivals[0].packet


def _expect_mac(carriage: ServiceCarriage, arrival: Arrival) -> None:
    """Whoever is at the port takes the packet for his."""
    assert arrival.packet[Field.ETH_DST] == carriage.mac_at(arrival.node, arrival.port)
    assert arrival.packet[Field.ETH_SRC] == mac(ROUTER_MAC)


def answer(protocol: Protocol, packet: Packet, flags: int = SYN | ACK) -> Packet:
    """An answer to a packet; the first one, unless other flags are given."""
    source, destination = ends(packet)
    return between(protocol, destination, source, flags)


def error(
    sender: IPAddress,
    about: Packet,
    kinds: dict[int, tuple[int, int]],
    to: IPAddress | None = None,
) -> Packet:
    """An ICMP error about a packet: to whom that came from."""
    source, _ = ends(about)
    version = 6 if about[Field.ETH_TYPE] == EthType.IPV6 else 4
    return icmp(str(sender), str(to or source.address), *kinds[version], quoted=about)
