"""Services as the decoder reads them, from what tests say of them."""

from __future__ import annotations

import json
from ipaddress import ip_address

from ovsnet.api import SERVICE
from ovsnet.api.decode import read_page

META = {
    "namespace": "shop",
    "name": "s",
    "uid": "u-1",
    "resourceVersion": "7",
    "creationTimestamp": "2026-01-01T00:00:00Z",
}
ADDRESSES = {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ipFamilies": ["IPv4"]}
DUAL = {
    "clusterIP": "10.96.0.7",
    "clusterIPs": ["10.96.0.7", "fd00:96::7"],
    "ipFamilies": ["IPv4", "IPv6"],
}
HTTP = {"ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}]}
NODE_PORT = {"type": "NodePort", "ports": [{"protocol": "TCP", "port": 80, "nodePort": 30080}]}


def read(spec, status=None, **metadata):
    """What is read of a service with this `spec`."""
    return read_thing({"metadata": META | metadata, "spec": spec, "status": status or {}})


def read_thing(thing):
    """The one object of a list, as it is read."""
    page = {"metadata": {"resourceVersion": "9"}, "items": [thing]}
    (found,) = read_page(SERVICE, json.dumps(page).encode()).objects
    return found


def value(spec, status=None):
    """The service with this `spec` beside an IPv4 address and a port."""
    found = read(ADDRESSES | HTTP | spec, status)
    assert found.problems == ()
    return found.value


def clean(spec, status=None):
    """The same, and there is nothing wrong with it."""
    found = value(spec, status)
    assert found.faults == ()
    return found


def faults(service):
    return [(fault.field, fault.reason) for fault in service.faults]


def ips(*texts):
    return tuple(map(ip_address, texts))


def ingress(*entries):
    return {"loadBalancer": {"ingress": list(entries)}}
