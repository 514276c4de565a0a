"""A small shop with services, in a court that answers `why`."""

from __future__ import annotations

import msgspec
from court import Court
from policy_objects import namespace, peer, pod, policy, port, rule
from service_carriage import network_of
from service_objects import endpoint_slice, node, service

from ovsnet.policy.world import World as Cluster
from ovsnet.services.world import World

NODES = [node(1, "east"), node(2, "west"), node(3)]
SPACES = [namespace("shop"), namespace("bank")]
WEB = pod("shop/web", "app=web", host=5)
API = [pod(f"shop/api-{n}", "app=api", node=n, host=6) for n in (1, 2, 3)]
PODS = [WEB, *API, pod("bank/vault", node=2, host=8)]
SERVICE = service("shop/api", "http=80@30080", cluster="10.96.0.1 fd00:96::1")
ONLY4 = service("shop/api", "http=80@30080")
PARTS = [
    endpoint_slice("shop/api", ["http=8080"], *(f"10.244.{n}.6" for n in (1, 2, 3))),
    endpoint_slice("shop/api", ["http=8080"], "fd00:10:244:2::6", name="six"),
]
DENY = policy("shop/deny", "app=api", ingress=())
WEB_ONLY = policy("shop/web-only", "app=api", ingress=[rule([peer("app=web")], [port(8080)])])


def court(services=(SERVICE,), parts=PARTS, policies=(), pods=PODS):
    world = World.of(NODES, services, parts)
    return Court(network_of(world, Cluster.of(SPACES, pods, NODES, policies)))


def with_changes(**changes):
    """The service with other fields, in a court of its own."""
    return court([msgspec.structs.replace(SERVICE, **changes)])


def endpoints(called):
    return [each.endpoint for each in called.endpoints]


ALL = ["10.244.1.6:8080", "10.244.2.6:8080", "10.244.3.6:8080"]


def translates_to(flow, number):
    """Whether a flow translates to the endpoint on a node."""
    return any(nat_node(action) == number for action in flow.actions)


def nat_node(action):
    """The number of the node to whose pods an action translates, if it does."""
    nat = getattr(action, "nat", None)
    return nat.address >> 8 & 0xFF if nat is not None and nat.address else None
