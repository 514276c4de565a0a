"""What Services must be (core/v1), their status, and what of them may not change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ovsnet.sandbox.apiserver.causes import duplicate, forbidden, required, unsupported, wrong
from ovsnet.sandbox.apiserver.kinds import Object
from ovsnet.sandbox.apiserver.service_fields import (
    has_addresses,
    is_headless,
    needs_health_check,
    reachable_from_outside,
)
from ovsnet.sandbox.apiserver.status import Cause
from ovsnet.sandbox.apiserver.validation_fields import (
    PROTOCOLS,
    address,
    dns_label,
    endpoint_address,
    labels,
    network,
    one_of,
    parsed_address,
    port_name,
    port_number,
    qualified_name,
    subdomain,
)

_TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
_POLICIES = ("Cluster", "Local")
_FAMILIES = ("IPv4", "IPv6")
_FAMILY_POLICIES = ("SingleStack", "PreferDualStack", "RequireDualStack")
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
_LONGEST_AFFINITY = 86400


def service(obj: Object) -> Iterator[Cause]:
    """What is wrong with a Service whose defaults have been filled in."""
    spec = obj["spec"]
    kind = spec["type"]
    headless = is_headless(spec)
    if not spec.get("ports") and not headless and kind != "ExternalName":
        yield required("spec.ports")
    if headless and kind in ("LoadBalancer", "NodePort"):
        message = f"may not be set to 'None' for {kind} services"
        yield wrong("spec.clusterIPs[0]", "None", message)
    if kind == "ExternalName":
        yield from _external_name(spec)
    yield from _ports(spec)
    yield from labels("spec.selector", spec.get("selector", {}))
    yield from _affinity(spec)
    yield from _cluster_addresses(spec)
    for index, text in enumerate(spec.get("externalIPs", ())):
        yield from endpoint_address(f"spec.externalIPs[{index}]", text)
    yield from one_of("spec.type", kind, _TYPES)
    yield from _load_balancer(spec)
    yield from _policies(spec)


def _external_name(spec: Object) -> Iterator[Cause]:
    for name in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if name in spec:
            yield forbidden(f"spec.{name}", "may not be set for ExternalName services")
    name = spec.get("externalName", "").removesuffix(".")
    if name:
        yield from subdomain("spec.externalName", name)
    else:
        yield required("spec.externalName")


def _ports(spec: Object) -> Iterator[Cause]:
    ports = spec.get("ports", ())
    names: set[str] = set()
    numbers: set[tuple[Any, Any]] = set()
    node_ports: set[tuple[Any, Any]] = set()
    for index, port in enumerate(ports):
        here = f"spec.ports[{index}]"
        name = port.get("name", "")
        if name:
            yield from dns_label(f"{here}.name", name)
        elif len(ports) > 1:
            yield required(f"{here}.name")
        if name and name in names:
            yield duplicate(f"{here}.name", name)
        names.add(name)
        yield from _port(port, here)
        number, node_port = port.get("port"), port.get("nodePort")
        if (port["protocol"], number) in numbers:
            yield duplicate(here, f"{number}/{port['protocol']}")
        numbers.add((port["protocol"], number))
        if node_port is None:
            continue
        if spec["type"] == "ClusterIP":
            yield forbidden(f"{here}.nodePort", "may not be used when `type` is 'ClusterIP'")
        if (port["protocol"], node_port) in node_ports:
            yield duplicate(f"{here}.nodePort", node_port)
        node_ports.add((port["protocol"], node_port))


def _port(port: Object, field: str) -> Iterator[Cause]:
    yield from port_number(f"{field}.port", port.get("port", 0))
    yield from one_of(f"{field}.protocol", port["protocol"], PROTOCOLS)
    target = port.get("targetPort")
    if isinstance(target, str):
        yield from port_name(f"{field}.targetPort", target)
    else:
        yield from port_number(f"{field}.targetPort", target)
    if "appProtocol" in port:
        yield from qualified_name(f"{field}.appProtocol", port["appProtocol"])


def _affinity(spec: Object) -> Iterator[Cause]:
    yield from one_of("spec.sessionAffinity", spec["sessionAffinity"], ("ClientIP", "None"))
    if spec["sessionAffinity"] == "ClientIP":
        seconds = spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"]
        if not 0 < seconds <= _LONGEST_AFFINITY:
            field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
            message = f"must be greater than 0 and less than {_LONGEST_AFFINITY}"
            yield wrong(field, seconds, message)


def _cluster_addresses(spec: Object) -> Iterator[Cause]:
    """Addresses and families, which must agree (ValidateServiceClusterIPsRelatedFields)."""
    if not has_addresses(spec):
        return
    here = "spec.clusterIPs"
    single, given = spec.get("clusterIP"), spec.get("clusterIPs", [])
    if single is None and given:
        yield wrong(here, given, "must be empty when `clusterIP` is not specified")
    elif given and given[0] != single:
        yield wrong(here, given, "first value must match `clusterIP`")
    families = spec.get("ipFamilies", [])
    for index, family in enumerate(families):
        yield from one_of(f"spec.ipFamilies[{index}]", family, _FAMILIES)
        if family in families[:index]:
            yield duplicate(f"spec.ipFamilies[{index}]", family)
    yield from one_of("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), _FAMILY_POLICIES)
    if given[:1] == ["None"]:
        if len(given) > 1:
            yield wrong(here, given, "'None' must be the first and only value")
        return
    invalid = [cause for i, text in enumerate(given) for cause in address(f"{here}[{i}]", text)]
    yield from invalid
    if len(given) > len(_FAMILIES):
        yield wrong(here, given, "may only hold up to 2 values")
    if invalid:
        return
    found = [f"IPv{parsed.version}" for text in given if (parsed := parsed_address(text))]
    if len(given) > 1 and sorted(found) != list(_FAMILIES):
        yield wrong(here, given, "may specify no more than one IP for each IP family")
    for index, (family, wanted) in enumerate(zip(found, families, strict=False)):
        if family != wanted and wanted in _FAMILIES:
            message = f"expected an {wanted} value as indicated by `ipFamilies[{index}]`"
            yield wrong(f"{here}[{index}]", given[index], message)


def _load_balancer(spec: Object) -> Iterator[Cause]:
    only = "may only be used when `type` is 'LoadBalancer'"
    balanced = spec["type"] == "LoadBalancer"
    # The field's name is spelt like this in a real server's answers.
    here = "spec.LoadBalancerSourceRanges"
    ranges = spec.get("loadBalancerSourceRanges", ())
    if ranges and not balanced:
        yield forbidden(here, only)
    for index, text in enumerate(ranges):
        yield from network(f"{here}[{index}]", text.strip())
    for name in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
        if name in spec and not balanced:
            yield forbidden(f"spec.{name}", only)
    if balanced and "loadBalancerClass" in spec:
        yield from qualified_name("spec.loadBalancerClass", spec["loadBalancerClass"])


def _policies(spec: Object) -> Iterator[Cause]:
    here = "spec.externalTrafficPolicy"
    policy = spec.get("externalTrafficPolicy")
    if reachable_from_outside(spec):
        yield from one_of(here, policy, _POLICIES)
    elif policy is not None:
        yield wrong(here, policy, "may only be set for externally-accessible services")
    number = spec.get("healthCheckNodePort")
    if number is not None and not needs_health_check(spec):
        message = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is "
        yield wrong("spec.healthCheckNodePort", number, f"{message}'Local'")
    here = "spec.internalTrafficPolicy"
    yield from one_of(here, spec.get("internalTrafficPolicy"), _POLICIES)
    here = "spec.trafficDistribution"
    yield from one_of(here, spec.get("trafficDistribution"), _DISTRIBUTIONS)


def service_update(new: Object, old: Object) -> list[Cause]:
    """What of a Service may not change as it does."""
    spec, before = new["spec"], old["spec"]
    causes: list[Cause] = []
    if has_addresses(spec) and has_addresses(before):
        causes += _moved_addresses(spec, before)
    if spec["type"] == before["type"] == "LoadBalancer":
        name = "loadBalancerClass"
        if spec.get(name) != before.get(name):
            causes.append(wrong(f"spec.{name}", spec.get(name), "may not change once set"))
    name = "healthCheckNodePort"
    if needs_health_check(spec) and needs_health_check(before) and spec[name] != before[name]:
        causes.append(forbidden(f"spec.{name}", "field is immutable"))
    return causes


def _moved_addresses(spec: Object, old: Object) -> Iterator[Cause]:
    """The first address and the first family are for life; a second one comes and goes."""
    given, before = spec.get("clusterIPs", []), old.get("clusterIPs", [])
    if is_headless(spec) and is_headless(old):
        return
    common = len(before) if len(given) == len(before) else 1
    for index, (new, kept) in enumerate(zip(given[:common], before[:common], strict=False)):
        if new != kept:
            yield wrong(f"spec.clusterIPs[{index}]", given, "may not change once set")
    if is_headless(spec) != is_headless(old):
        return
    families, known = spec.get("ipFamilies", []), old.get("ipFamilies", [])
    common = len(known) if len(families) == len(known) else 1
    if families[:common] != known[: len(families[:common])]:
        yield wrong("spec.ipFamilies[0]", families, "may not change once set")


def service_status(obj: Object) -> Iterator[Cause]:
    """What is wrong with a Service's status (ValidateLoadBalancerStatus)."""
    here = "status.loadBalancer.ingress"
    entries = obj["status"].get("loadBalancer", {}).get("ingress", ())
    if entries and obj["spec"]["type"] != "LoadBalancer":
        yield forbidden(here, "may only be used when `spec.type` is 'LoadBalancer'")
        return
    for index, entry in enumerate(entries):
        place = f"{here}[{index}]"
        text, mode, name = (entry.get("ip"), entry.get("ipMode"), entry.get("hostname", ""))
        if text:
            yield from address(f"{place}.ip", text)
        if mode is not None and not text:
            yield forbidden(f"{place}.ipMode", "may not be specified when `ip` is not set")
        elif mode is not None and mode not in ("VIP", "Proxy"):
            yield unsupported(f"{place}.ipMode", mode, ("Proxy", "VIP"))
        if name:
            yield from subdomain(f"{place}.hostname", name)
            if parsed_address(name) is not None:
                message = "must be a DNS name, not an IP address"
                yield wrong(f"{place}.hostname", name, message)
