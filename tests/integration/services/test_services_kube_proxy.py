"""A kube-proxy that runs on the nodes does no harm."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

from agreement import disagreements
from host_side import KUBE_PROXY
from market import FAMILIES, Market
from places import Place
from service_objects import endpoint_slice, service

from ovsnet.model import IPAddress

WEB = service("shop/web", "http=80@30080", "dns=80@30080/UDP", cluster="10.96.0.1 fd00:96::1")
OTHER = service("shop/other", "http=80@30081", "dns=80@30081/UDP", cluster="10.96.0.2 fd00:96::2")
BEHIND = ("http=8080", "dns=8080/UDP")


def test_pods_nodes_and_the_outside_are_served_as_ever(market: Market) -> None:
    four, six = ("10.244.1.5", "10.244.3.5"), ("fd00:10:244:1::5", "fd00:10:244:3::5")
    market.serve(
        *market.wire(
            WEB,
            endpoint_slice("shop/web", BEHIND, four[0]),
            endpoint_slice("shop/web", BEHIND, six[0], name="six"),
            OTHER,
            endpoint_slice("shop/other", BEHIND, *four),
            endpoint_slice("shop/other", BEHIND, *six, name="six"),
        )
    )
    world = market.world()
    calls = list(market.calls(world))
    with contextlib.ExitStack() as stack:
        for node in market.nodes.values():
            stack.enter_context(kube_proxy(market, node, world.services[WEB.ref].addresses))
        wrong = disagreements(market, world, calls)
        assert not wrong, "\n".join(wrong)
        packets = [int(word) for node in market.nodes.values() for word in taken(node)]
        assert sum(packets), "nothing has come by its rules"


@contextlib.contextmanager
def kube_proxy(market: Market, node: Place, addresses: tuple[IPAddress, ...]) -> Iterator[None]:
    """Its rules on a node, with WEB and the endpoint that it has, for as long as this lasts."""
    own = {address.version: address for address in addresses}
    programs = {4: "iptables", 6: "ip6tables"}
    try:
        for version in FAMILIES:
            host = market.pods["a1"].address(version)
            text = KUBE_PROXY.format(
                cluster_ip=own[version],
                port=30080,
                endpoint=f"{host}:8080" if version == 4 else f"[{host}]:8080",
            )
            _restore(node, programs[version], text)
        yield
    finally:
        for program in programs.values():
            for table in ("nat", "filter"):
                for flag in ("-F", "-X"):
                    node.run(program, "-t", table, flag)


def _restore(node: Place, program: str, text: str) -> None:
    done = node.within(
        lambda: subprocess.run(
            [f"{program}-restore"], input=text, capture_output=True, text=True, check=False
        )
    )
    assert done.returncode == 0, done.stderr


def taken(node: Place) -> list[str]:
    """How many packets its rules for the service's cluster addresses have taken."""
    return [
        line.split()[0]
        for program in ("iptables", "ip6tables")
        for line in node.run(program, "-t", "nat", "-nvxL", "KUBE-SEP-ABC").stdout.splitlines()
        if "DNAT" in line
    ]
