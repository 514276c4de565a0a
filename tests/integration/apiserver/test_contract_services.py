"""Services and EndpointSlices as users and networks rely on them.

Runs on the embedded and on a real server.
"""

from __future__ import annotations

from ipaddress import ip_address

import pytest

MERGE = "application/merge-patch+json"
ONE = [{"port": 80}]
LB = {"type": "LoadBalancer", "ports": ONE}
LOCAL = {"externalTrafficPolicy": "Local"}
AFFINITY = {"sessionAffinity": "ClientIP"}


def lasting(seconds):
    return {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}}


class Services:
    """The services of a namespace, of which tests write `x`."""

    def __init__(self, target, namespace):
        self.target = target
        self.path = f"/api/v1/namespaces/{namespace}/services"

    def send(self, method, spec, path="", **options):
        body = {"spec": spec} if method == "PATCH" else {"metadata": {"name": "x"}, "spec": spec}
        return self.target.request(method, self.path + path, body, **options)

    def create(self, **spec):
        return self.send("POST", {"ports": ONE} | spec)

    def patch(self, **spec):
        return self.send("PATCH", spec, "/x", media=MERGE)

    def replace(self, **spec):
        return self.send("PUT", {"ports": ONE} | spec, "/x")

    def set_status(self, *ingress):
        body = {"status": {"loadBalancer": {"ingress": list(ingress)}}}
        return self.target.request("PATCH", f"{self.path}/x/status", body, media=MERGE)


@pytest.fixture
def services(target, namespace):
    return Services(target, namespace)


def spec_of(answer):
    assert answer.status < 300, answer.body
    return answer.body["spec"]


def node_ports(answer):
    return [port.get("nodePort") for port in spec_of(answer)["ports"]]


def refusal(answer):
    """The fields of an answer that an object is invalid."""
    assert (answer.status, answer.body["reason"]) == (422, "Invalid"), answer.body
    return {cause["field"] for cause in answer.body["details"]["causes"]}


ALLOCATED = ("clusterIP", "clusterIPs", "healthCheckNodePort", "ports")
PLAIN = {
    "internalTrafficPolicy": "Cluster",
    "ipFamilies": ["IPv4"],
    "ipFamilyPolicy": "SingleStack",
    "sessionAffinity": "None",
    "type": "ClusterIP",
}
OUTWARD = PLAIN | {"externalTrafficPolicy": "Cluster"}
BALANCED = OUTWARD | {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": True}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, PLAIN),
        (
            {"type": "", "clusterIP": "", "sessionAffinity": "", "externalTrafficPolicy": ""},
            PLAIN,
        ),
        (lasting(7), PLAIN),
        (AFFINITY, PLAIN | AFFINITY | lasting(10800)),
        (AFFINITY | {"sessionAffinityConfig": {}}, PLAIN | AFFINITY | lasting(10800)),
        (AFFINITY | lasting(86400), PLAIN | AFFINITY | lasting(86400)),
        ({"externalIPs": ["192.0.2.1"]}, OUTWARD | {"externalIPs": ["192.0.2.1"]}),
        ({"externalIPs": ["2001:db8::1"]}, OUTWARD | {"externalIPs": ["2001:db8::1"]}),
        ({"type": "NodePort"}, OUTWARD | {"type": "NodePort"}),
        ({"type": "NodePort"} | LOCAL, OUTWARD | {"type": "NodePort"} | LOCAL),
        ({"type": "LoadBalancer"}, BALANCED),
        ({"type": "LoadBalancer"} | LOCAL, BALANCED | LOCAL),
        (
            {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/8", " 10.1.2.3/16 "]},
            BALANCED | {"loadBalancerSourceRanges": ["10.0.0.0/8", " 10.1.2.3/16 "]},
        ),
        ({"internalTrafficPolicy": "Local"}, PLAIN | {"internalTrafficPolicy": "Local"}),
        ({"publishNotReadyAddresses": True}, PLAIN | {"publishNotReadyAddresses": True}),
        *(
            ({"trafficDistribution": text}, PLAIN | {"trafficDistribution": text})
            for text in ("PreferClose", "PreferSameZone", "PreferSameNode")
        ),
        ({"ipFamilies": ["IPv6"]}, PLAIN | {"ipFamilies": ["IPv6"]}),
        (
            {"ipFamilyPolicy": "PreferDualStack"},
            PLAIN | {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4", "IPv6"]},
        ),
        (
            {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]},
            PLAIN | {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]},
        ),
        ({"clusterIP": "None", "selector": {"a": "b"}}, PLAIN | {"selector": {"a": "b"}}),
        (
            {"clusterIP": "None"},
            PLAIN | {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]},
        ),
        (
            {
                "type": "ExternalName",
                "externalName": "example.org.",
                "internalTrafficPolicy": "Local",
            },
            {"type": "ExternalName", "externalName": "example.org.", "sessionAffinity": "None"},
        ),
    ],
)
def test_what_is_filled_in(services, spec, expected):
    made = spec_of(services.create(**spec))
    assert {name: value for name, value in made.items() if name not in ALLOCATED} == expected
    given = made.get("clusterIPs", [])
    assert given[:1] == ([made["clusterIP"]] if "clusterIP" in made else [])
    if "None" in given or "ipFamilies" not in made:
        assert len(given) == (spec.get("clusterIP") == "None")
    else:
        assert [f"IPv{ip_address(text).version}" for text in given] == made["ipFamilies"]
    exposed = made["type"] in ("NodePort", "LoadBalancer")
    assert all(("nodePort" in port) is exposed for port in made["ports"])
    asked = made["type"] == "LoadBalancer" and made["externalTrafficPolicy"] == "Local"
    assert ("healthCheckNodePort" in made) is asked


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"type": "Anycast"}, "type"),
        ({"ports": []}, "ports"),
        ({"sessionAffinity": "Cookie"}, "sessionAffinity"),
        (AFFINITY | lasting(0), "sessionAffinityConfig.clientIP.timeoutSeconds"),
        (AFFINITY | lasting(86401), "sessionAffinityConfig.clientIP.timeoutSeconds"),
        *(
            ({"externalIPs": ["192.0.2.1", text]}, "externalIPs[1]")
            for text in ("", "ten", "127.0.0.1", "::1", "169.254.1.1", "fe80::1", "0.0.0.0", "::")
        ),
        ({"externalIPs": ["224.0.0.1"]}, "externalIPs[0]"),
        ({"externalIPs": ["ff02::1"]}, "externalIPs[0]"),
        ({"externalIPs": ["::ffff:127.0.0.1"]}, "externalIPs[0]"),
        (LOCAL, "externalTrafficPolicy"),
        ({"type": "NodePort", "externalTrafficPolicy": "Rack"}, "externalTrafficPolicy"),
        ({"internalTrafficPolicy": "Rack"}, "internalTrafficPolicy"),
        ({"trafficDistribution": "Anywhere"}, "trafficDistribution"),
        ({"allocateLoadBalancerNodePorts": False}, "allocateLoadBalancerNodePorts"),
        ({"healthCheckNodePort": 31000}, "healthCheckNodePort"),
        (LB | {"healthCheckNodePort": 31000}, "healthCheckNodePort"),
        ({"type": "NodePort", "healthCheckNodePort": 31000} | LOCAL, "healthCheckNodePort"),
        ({"loadBalancerSourceRanges": ["10.0.0.0/8"]}, "LoadBalancerSourceRanges"),
        (LB | {"loadBalancerSourceRanges": ["10.0.0.0"]}, "LoadBalancerSourceRanges[0]"),
        ({"loadBalancerClass": "example.org/x"}, "loadBalancerClass"),
        (LB | {"loadBalancerClass": "a b"}, "loadBalancerClass"),
        ({"ipFamilyPolicy": "Any"}, "ipFamilyPolicy"),
        ({"ipFamilies": ["IPv5"]}, "ipFamilies[0]"),
        ({"ipFamilies": ["IPv4", "IPv6"]}, "ipFamilyPolicy"),
        (
            {"ipFamilies": ["IPv4", "IPv4"], "ipFamilyPolicy": "PreferDualStack"},
            "ipFamilies[1]",
        ),
        ({"clusterIP": "None", "type": "NodePort"}, "clusterIPs[0]"),
        ({"clusterIP": "None", "type": "LoadBalancer"}, "clusterIPs[0]"),
        ({"clusterIPs": ["None"]}, "clusterIPs"),
        ({"clusterIP": "ten"}, "clusterIPs[0]"),
        ({"clusterIP": "192.0.2.1"}, "clusterIPs"),
        ({"type": "ExternalName"}, "externalName"),
        ({"type": "ExternalName", "externalName": "a b"}, "externalName"),
        (
            {"type": "ExternalName", "externalName": "example.org", "clusterIP": "None"},
            "clusterIPs",
        ),
        ({"ports": [{"port": 0}]}, "ports[0].port"),
        ({"ports": [{"port": 80, "protocol": "QUIC"}]}, "ports[0].protocol"),
        ({"ports": [{"port": 80, "name": "A_b"}]}, "ports[0].name"),
        ({"ports": [{"port": 80, "targetPort": 70000}]}, "ports[0].targetPort"),
        ({"ports": [{"port": 80, "targetPort": "-"}]}, "ports[0].targetPort"),
        ({"ports": [{"port": 80, "appProtocol": "a b"}]}, "ports[0].appProtocol"),
        ({"ports": [{"port": 80}, {"port": 81}]}, "ports[1].name"),
        ({"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]}, "ports[1].name"),
        ({"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]}, "ports[1]"),
        ({"ports": [{"port": 80, "nodePort": 31999}]}, "ports[0].nodePort"),
        ({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}, "ports[0].nodePort"),
        (
            {
                "type": "NodePort",
                "ports": [
                    {"name": "a", "port": 80, "nodePort": 31998},
                    {"name": "b", "port": 81, "nodePort": 31998},
                ],
            },
            "ports[1].nodePort",
        ),
        (
            {
                "type": "NodePort",
                "ports": [
                    {"name": "a", "port": 80, "nodePort": 31998},
                    {"name": "b", "port": 53, "protocol": "UDP", "nodePort": 31998},
                ],
            },
            "ports[1].nodePort",
        ),
        ({"selector": {"a b": "c"}}, "selector"),
    ],
)
def test_what_means_nothing_is_refused(services, spec, field):
    assert f"spec.{field}" in refusal(services.create(**spec))


def test_a_port_for_health_checks_that_cannot_be_had_is_an_error(services):
    answer = services.create(**LB, **LOCAL, healthCheckNodePort=80)
    assert (answer.status, answer.body["reason"]) == (500, "InternalError")
    assert "not in the valid range" in answer.body["message"]


# Ports of the nodes.


def test_protocols_of_one_number_share_a_port_of_the_nodes(services):
    ports = [{"port": 53, "name": "a"}, {"port": 53, "name": "b", "protocol": "UDP"}]
    first, second = node_ports(services.create(type="NodePort", ports=ports))
    assert first == second


def test_other_numbers_share_a_port_of_the_nodes_only_later(services):
    ports = [{"port": 80, "name": "a"}, {"port": 53, "name": "b", "protocol": "UDP"}]
    first, _ = node_ports(services.create(type="NodePort", ports=ports))
    shared = [port | {"nodePort": first} for port in ports]
    assert node_ports(services.replace(type="NodePort", ports=shared)) == [first, first]


def test_the_first_ports_of_the_nodes_are_left_for_those_who_ask(services):
    ports = [{"port": number, "name": f"p{number}"} for number in range(1, 21)]
    assert all(port >= 30086 for port in node_ports(services.create(type="NodePort", ports=ports)))


def test_an_update_keeps_ports_of_the_nodes_by_name(services):
    ports = [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]
    first, second = node_ports(services.create(type="NodePort", ports=ports))
    swapped = [{"port": 81, "name": "b"}, {"port": 82, "name": "a"}]
    assert node_ports(services.replace(type="NodePort", ports=swapped)) == [second, first]


def test_a_port_of_the_nodes_that_was_passed_on_is_not_kept(services):
    ports = [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]
    first, _ = node_ports(services.create(type="NodePort", ports=ports))
    passed = [{"port": 80, "name": "a"}, {"port": 81, "name": "b", "nodePort": first}]
    new, kept = node_ports(services.replace(type="NodePort", ports=passed))
    assert kept == first
    assert new != first


def test_a_load_balancer_may_do_without_ports_of_the_nodes(services):
    without = {"allocateLoadBalancerNodePorts": False}
    assert node_ports(services.create(**LB, **without)) == [None]
    (port,) = node_ports(services.patch(allocateLoadBalancerNodePorts=True))
    assert node_ports(services.patch(**without)) == [port]
    assert node_ports(services.replace(**LB, **without)) == [None]


def test_the_port_for_health_checks_is_for_life(services):
    made = spec_of(services.create(**LB, **LOCAL))
    port = made["healthCheckNodePort"]
    assert 30000 <= port <= 32767
    assert [port] != node_ports(services.patch())
    assert spec_of(services.replace(**LB, **LOCAL))["healthCheckNodePort"] == port
    other = 30000 if port != 30000 else 30001
    assert refusal(services.patch(healthCheckNodePort=other)) == {"spec.healthCheckNodePort"}
    assert "healthCheckNodePort" not in spec_of(services.patch(externalTrafficPolicy="Cluster"))


# A service that becomes another one.


@pytest.mark.parametrize(
    "before",
    [
        {"type": "NodePort"},
        {"type": "NodePort"} | LOCAL,
        LB,
        LB | LOCAL,
        LB | {"loadBalancerClass": "example.org/x", "allocateLoadBalancerNodePorts": True},
        {"externalIPs": ["192.0.2.1"]} | LOCAL,
    ],
)
def test_what_went_with_the_old_type_goes(services, before):
    address = spec_of(services.create(**before))["clusterIP"]
    made = spec_of(services.patch(type="ClusterIP", externalIPs=None))
    assert {name: value for name, value in made.items() if name not in ALLOCATED} == PLAIN
    assert made["clusterIP"] == address
    assert made["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]


def test_the_port_of_the_nodes_stays_with_the_types_that_have_it(services):
    ports = node_ports(services.create(type="NodePort"))
    assert node_ports(services.patch(type="LoadBalancer")) == ports
    assert node_ports(services.patch(type="NodePort")) == ports


def test_to_a_name_and_back(services):
    services.create(**LB, **LOCAL)
    made = spec_of(services.patch(type="ExternalName", externalName="example.org"))
    assert made.keys() == {"type", "externalName", "ports", "sessionAffinity"}
    assert spec_of(services.patch(type="ClusterIP", externalName=None)) | PLAIN == spec_of(
        services.patch()
    )


@pytest.mark.parametrize(
    ("before", "change", "field"),
    [
        ({}, {"clusterIP": "None"}, "clusterIPs[0]"),
        ({"clusterIP": "None"}, {"clusterIP": "10.96.0.250"}, "clusterIPs[0]"),
        ({}, {"ipFamilies": ["IPv6"]}, "clusterIPs[0]"),
        ({"ipFamilyPolicy": "RequireDualStack"}, {"ipFamilies": ["IPv4"]}, "ipFamilyPolicy"),
        (
            LB | {"loadBalancerClass": "example.org/x"},
            {"loadBalancerClass": "example.org/y"},
            "loadBalancerClass",
        ),
        (LB | {"loadBalancerSourceRanges": ["10.0.0.0/8"]}, {"type": "NodePort"}, None),
    ],
)
def test_what_may_not_change(services, before, change, field):
    spec_of(services.create(**before))
    expected = f"spec.{field}" if field else "spec.LoadBalancerSourceRanges"
    assert expected in refusal(services.patch(**change))


def test_a_second_family_comes_and_goes(services):
    first = spec_of(services.create())["clusterIP"]
    both = spec_of(services.patch(ipFamilyPolicy="PreferDualStack"))
    assert (both["clusterIPs"][0], len(both["clusterIPs"])) == (first, 2)
    assert spec_of(services.replace())["clusterIPs"] == both["clusterIPs"]
    one = spec_of(services.patch(ipFamilyPolicy="SingleStack"))
    assert (one["clusterIPs"], one["ipFamilies"]) == ([first], ["IPv4"])


# What a load balancer says of itself.


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"ip": "198.51.100.1"}, {"ip": "198.51.100.1", "ipMode": "VIP"}),
        ({"ip": "2001:db8::2"}, {"ip": "2001:db8::2", "ipMode": "VIP"}),
        ({"ip": "198.51.100.1", "ipMode": "Proxy"}, {"ip": "198.51.100.1", "ipMode": "Proxy"}),
        ({"hostname": "lb.example.org"}, {"hostname": "lb.example.org"}),
    ],
)
def test_the_status_of_a_load_balancer(services, given, kept):
    spec = spec_of(services.create(**LB))
    answer = services.set_status(given)
    assert answer.body["status"] == {"loadBalancer": {"ingress": [kept]}}
    assert answer.body["spec"] == spec
    # Who writes the service does not write its status.
    assert services.replace(**LB).body["status"] == answer.body["status"]
    assert services.patch(type="NodePort").body["status"] == {"loadBalancer": {}}


@pytest.mark.parametrize(
    ("kind", "given", "field"),
    [
        ("ClusterIP", {"ip": "198.51.100.1"}, ""),
        ("NodePort", {"ip": "198.51.100.1"}, ""),
        ("LoadBalancer", {"ip": "ten"}, "[0].ip"),
        ("LoadBalancer", {"ip": "198.51.100.1", "ipMode": "Tunnel"}, "[0].ipMode"),
        ("LoadBalancer", {"hostname": "lb.example.org", "ipMode": "VIP"}, "[0].ipMode"),
        ("LoadBalancer", {"hostname": "198.51.100.1"}, "[0].hostname"),
        ("LoadBalancer", {"hostname": "a b"}, "[0].hostname"),
    ],
)
def test_a_status_that_means_nothing_is_refused(services, kind, given, field):
    spec_of(services.create(type=kind))
    answer = services.set_status(given)
    assert f"status.loadBalancer.ingress{field}" in refusal(answer)
    assert services.patch().body["status"] == {"loadBalancer": {}}


# EndpointSlices.


def slice_(*endpoints, kind="IPv4", ports=()):
    return {
        "metadata": {"name": "x"},
        "addressType": kind,
        "endpoints": list(endpoints),
        "ports": list(ports),
    }


@pytest.fixture
def slices(namespace):
    return f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("IPv4", "10.1.0.3"),
        # These a network has to know of.
        ("IPv4", "224.1.0.1"),
        ("IPv4", "010.1.0.3"),
        ("IPv4", "::ffff:10.1.0.3"),
        ("IPv6", "fd00:1::3"),
        ("IPv6", "ff05::1"),
        ("FQDN", "example.org"),
    ],
)
def test_addresses_of_endpoints(target, slices, kind, text):
    made = target.ok("POST", slices, slice_({"addresses": [text]}, kind=kind))
    assert made["endpoints"] == [{"addresses": [text], "conditions": {}}]


def test_ports_of_endpoints_may_be_anything(target, slices):
    ports = [{"name": "a"}, {"name": "b", "port": 0}, {"name": "c", "port": 70000}, {"port": 80}]
    made = target.ok("POST", slices, slice_(ports=ports))
    assert made["ports"] == [{"name": "", "protocol": "TCP"} | port for port in ports]


def hint(**names):
    return {"hints": {key: [{"name": name} for name in each] for key, each in names.items()}}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (slice_(kind=""), "addressType"),
        (slice_(kind="IP"), "addressType"),
        (slice_({"addresses": []}), "endpoints[0].addresses"),
        *(
            (slice_({"addresses": [text]}, kind=kind), "endpoints[0].addresses[0]")
            for kind, text in (
                ("IPv4", "ten"),
                ("IPv4", "127.0.0.1"),
                ("IPv4", "169.254.0.1"),
                ("IPv4", "0.0.0.0"),
                ("IPv4", "224.0.0.1"),
                ("IPv6", "::1"),
                ("IPv6", "fe80::1"),
                ("IPv6", "ff02::1"),
                ("IPv6", "FD00::1"),
                ("IPv6", "::ffff:10.1.0.3"),
                ("FQDN", "example"),
                ("FQDN", ""),
            )
        ),
        (slice_({"addresses": ["fd00::1"]}), "endpoints[0].addresses"),
        (slice_({"addresses": ["10.1.0.3"]}, kind="IPv6"), "endpoints[0].addresses"),
        (slice_({"addresses": ["10.1.0.3"], "nodeName": "a b"}), "endpoints[0].nodeName"),
        (slice_({"addresses": ["10.1.0.3"], "hostname": "a.b"}), "endpoints[0].hostname"),
        (
            slice_({"addresses": ["10.1.0.3"]} | hint(forZones=["a", "a"])),
            "endpoints[0].hints.forZones[1].name",
        ),
        (
            slice_({"addresses": ["10.1.0.3"]} | hint(forNodes=["a b"])),
            "endpoints[0].hints.forNodes[0].name",
        ),
        (
            slice_({"addresses": ["10.1.0.3"]} | hint(forZones="abcdefghi")),
            "endpoints[0].hints.forZones",
        ),
        (slice_(*[{"addresses": ["10.1.0.3"]}] * 1001), "endpoints"),
        (slice_(ports=[{"name": "A"}]), "ports[0].name"),
        (slice_(ports=[{"name": "a"}, {"name": "a"}]), "ports[1].name"),
        (slice_(ports=[{"protocol": "QUIC"}]), "ports[0].protocol"),
        (slice_(ports=[{"appProtocol": "a b"}]), "ports[0].appProtocol"),
    ],
)
def test_a_slice_that_means_nothing_is_refused(target, slices, body, field):
    assert field in refusal(target.request("POST", slices, body))


def test_the_type_of_a_slice_may_not_change(target, slices):
    target.ok("POST", slices, slice_())
    answer = target.request("PATCH", f"{slices}/x", {"addressType": "IPv6"}, media=MERGE)
    assert "addressType" in refusal(answer)
