"""The choice of endpoints, and who has which address and port, with one rule broken on purpose: the
comparison with the evaluator must notice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace
from service_breaks import Break, instead
from service_flow_breaks import in_scenes, shows

from ovsnet.controller.services import board, doors, endpoints, objections
from ovsnet.flows.service import Target
from ovsnet.model import parse_address


def candidates_of(keep: Callable[[Any, Any], bool]) -> Break:
    """A break of which endpoints a board takes for a port."""

    def broken(real: Any) -> Any:
        def found(self: Any, slices: Any, port: Any, version: int) -> Any:
            for part in slices:
                for each in part.ports:
                    for endpoint in part.endpoints:
                        if keep(each, port) and endpoint.address.version == version:
                            yield Target(endpoint.address, each.port), endpoint

        return found

    return Break(board.Board, "_endpoints", broken)


def choice(**change: Callable[[Any, Any], Any]) -> Break:
    """A break of some parts of the choice of endpoints: made of what is found and the real one."""

    def broken(real: Any) -> Any:
        def made(found: Any) -> Any:
            chosen = real(found)
            return replace(chosen, **{k: make(found, chosen) for k, make in change.items()})

        return made

    return Break(board, "choose", broken)


def grouped(found: Any, wanted: Callable[[Any], bool], names: Callable[[Any], Any]) -> Any:
    return endpoints._grouped([t for t, e in found.items() if wanted(e)], lambda t: names(found[t]))


def targets(found: Any, wanted: Callable[[Any], bool]) -> Any:
    return tuple(sorted(t for t, e in found.items() if wanted(e)))


def in_any_family(service_: Any) -> Any:
    way = doors.Way
    yield from ((a, way.CLUSTER, "spec.clusterIPs") for a in service_.addresses)
    yield from ((a, way.EXTERNAL, "spec.externalIPs") for a in service_.external)


def headless_too(real: Any) -> Any:
    def found(one: Any) -> Any:
        named = one if one.addresses else replace(one, addresses=(parse_address("10.96.9.9"),))
        return real(named)

    return found


def sources_last(real: Any) -> Any:
    return lambda one: sorted(real(one), key=lambda found: found[1] is doors.Way.LOAD_BALANCER)


BREAKS: dict[tuple[str, str], Break] = {
    # which endpoints
    ("what drains is not used", "draining ones alone"): choice(
        everywhere=lambda found, _: targets(found, lambda e: e.ready)
    ),
    ("what drains is used always", "draining beside ready ones"): choice(
        everywhere=lambda found, _: targets(found, lambda e: e.ready or e.terminating)
    ),
    ("everything is used", "endpoints that are not ready"): choice(
        everywhere=lambda found, _: targets(found, lambda e: True)
    ),
    ("hints of some are enough", "hints for some"): choice(
        zones=lambda found, _: grouped(found, lambda e: e.ready, lambda e: e.zones)
    ),
    ("what drains has hints", "hints of what drains"): choice(
        zones=lambda found, _: grouped(found, lambda e: True, lambda e: e.zones)
    ),
    ("Local is everywhere", "external Local"): choice(
        local=lambda found, chosen: dict.fromkeys(("node-1", "node-2"), chosen.everywhere)
    ),
    ("what drains is not local", "Local and draining"): choice(
        local=lambda found, _: grouped(found, lambda e: e.ready, lambda e: [e.node])
    ),
    ("what drains is local always", "Local and several on a node"): choice(
        local=lambda found, _: grouped(found, lambda e: True, lambda e: ["node-1"])
    ),
    ("what drains is healthy", "health checks of what drains"): choice(
        healthy=lambda found, _: frozenset(e.node for e in found.values())
    ),
    ("the first copy counts", "slices that disagree"): instead(
        endpoints, "_standing", lambda endpoint: 0
    ),
    ("services are endpoints", "a service as an endpoint"): candidates_of(
        lambda each, port: (each.name, each.protocol) == (port.name, port.protocol)
    ),
    ("ports of slices are known by their protocol", "several ports"): candidates_of(
        lambda each, port: each.protocol == port.protocol
    ),
    # who has what
    ("the younger one has it", "a node port of two services"): Break(
        doors,
        "_standing",
        lambda real: (
            lambda one, entrance: (
                entrance.way is not doors.Way.CLUSTER,
                "".join(chr(300 - ord(c)) for c in one.created),
                one.ref,
            )
        ),
    ),
    ("cluster addresses may be taken", "a cluster address taken"): instead(
        objections, "_why_not", lambda *_: None
    ),
    ("addresses of pods may be taken", "an address in a pod range"): instead(
        objections, "_why_not", lambda *_: None
    ),
    ("addresses are of any family", "an address of another family"): instead(
        doors, "addresses", in_any_family
    ),
    ("headless services are forwarded for", "headless"): Break(doors, "_all", headless_too),
    ("source ranges are a last resort", "an address of two ways"): Break(
        doors, "addresses", sources_last
    ),
}


@in_scenes(BREAKS)
def test_a_broken_choice_disagrees_with_the_evaluator(scene: str, broken: Break) -> None:
    assert shows(scene, broken)
