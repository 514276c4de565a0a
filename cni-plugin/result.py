"""The result of an ADD, in the form of each protocol version.

CNI spec 1.1.0, section 5, "Success". A result is made and kept in the newest form; `convert`
writes what an older version knows: before 1.0 every address says its family, and MTU came with
1.1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ovsnet.cni.ranges import Addresses

_WITH_FAMILY = frozenset({"0.3.1", "0.4.0"})
_WITHOUT_MTU = frozenset({"0.3.1", "0.4.0", "1.0.0"})
NEWEST = "1.1.0"


def success(
    port: str, ifname: str, netns: str, mtu: int, addresses: Addresses, dns: Mapping[str, Any]
) -> dict[str, Any]:
    """The newest version's result for one attachment: host side first, then the pod's."""
    a = addresses
    families = ((a.ipv4, a.gateway4, 32, "0.0.0.0/0"), (a.ipv6, a.gateway6, 128, "::/0"))
    present = [f for f in families if f[0] is not None]
    return {
        "cniVersion": NEWEST,
        "interfaces": [
            {"name": port, "mac": a.host_mac, "mtu": mtu},
            {"name": ifname, "mac": a.pod_mac, "mtu": mtu, "sandbox": netns},
        ],
        "ips": [
            {"address": f"{address}/{length}", "gateway": str(gateway), "interface": 1}
            for address, gateway, length, _ in present
        ],
        "routes": [{"dst": dst, "gw": str(gateway)} for _, gateway, _, dst in present],
        "dns": dict(dns),
    }


def convert(result: Mapping[str, Any], version: str) -> dict[str, Any]:
    """The same result in the form of protocol `version`."""
    converted = dict(result) | {"cniVersion": version}
    if version in _WITHOUT_MTU:
        converted["interfaces"] = [
            {k: v for k, v in interface.items() if k != "mtu"} for interface in result["interfaces"]
        ]
    if version in _WITH_FAMILY:
        converted["ips"] = [{"version": _family(ip["address"])} | ip for ip in result["ips"]]
    return converted


def _family(address: str) -> str:
    return "6" if ":" in address else "4"


def addresses_in(result: Mapping[str, Any]) -> list[str]:
    """The addresses, without prefix lengths, that a result of any version lists.

    Raises:
        ValueError: the result does not have the specification's form.
    """
    ips = result.get("ips")
    if not isinstance(ips, list):
        raise ValueError("the result has no list `ips`")
    try:
        return [str(ip["address"]).partition("/")[0] for ip in ips]
    except (TypeError, KeyError):
        raise ValueError(f"`ips` is {json.dumps(ips)}; expected objects with `address`") from None
