"""The command lines of a control plane's programs."""

from __future__ import annotations

import pytest

from ovsnet.sandbox.controlplane import commands
from ovsnet.sandbox.controlplane.options import (
    CONTROLLER_MANAGER,
    SCHEDULER,
    Options,
)

BASE = Options(programs="/programs", directory="/here")


def options(**more: object) -> Options:
    return Options(programs="/programs", directory="/here", **more)  # type: ignore[arg-type]


def test_flags_without_a_value_are_left_out_and_ones_own_come_last() -> None:
    made = commands.command("/x", {"a": "1", "b": ""}, ("--a=2",))
    assert made == ("/x", "--a=1", "--a=2")


@pytest.mark.parametrize(
    ("made", "server", "advertised", "reconciler"),
    [
        (BASE, "https://127.0.0.1:6443", "127.0.0.1", "none"),
        (options(bind="192.0.2.1", port=1), "https://192.0.2.1:1", "192.0.2.1", "none"),
        (options(bind="::1"), "https://[::1]:6443", "::1", "none"),
        (options(bind="0.0.0.0", advertise="192.0.2.1"), "https://192.0.2.1:6443", "192.0.2.1", ""),
        (options(bind="0.0.0.0"), "https://127.0.0.1:6443", "127.0.0.1", "none"),
    ],
)
def test_where_it_listens_and_is_said_to(
    made: Options, server: str, advertised: str, reconciler: str
) -> None:
    flags = commands.api_server_flags(made, "http://etcd")
    assert made.server == server
    assert flags["advertise-address"] == advertised
    assert flags["endpoint-reconciler-type"] == reconciler
    assert flags["bind-address"] == made.bind


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ((), {}),
        (
            ("10.0.0.0/16",),
            {
                "allocate-node-cidrs": "true",
                "cluster-cidr": "10.0.0.0/16",
                "node-cidr-mask-size": "24",
            },
        ),
        (
            ("fd00::/56",),
            {
                "allocate-node-cidrs": "true",
                "cluster-cidr": "fd00::/56",
                "node-cidr-mask-size": "64",
            },
        ),
        (
            ("10.0.0.0/16", "fd00::/56"),
            {
                "allocate-node-cidrs": "true",
                "cluster-cidr": "10.0.0.0/16,fd00::/56",
                "node-cidr-mask-size-ipv4": "24",
                "node-cidr-mask-size-ipv6": "64",
            },
        ),
    ],
)
def test_nodes_get_ranges_of_the_families_there_are(
    ranges: tuple[str, ...], expected: dict[str, str]
) -> None:
    flags = commands.controller_flags(options(pod_ranges=ranges), CONTROLLER_MANAGER)
    assert {name: value for name, value in flags.items() if "cidr" in name} == expected


def test_whoever_works_through_the_api_server_has_credentials_of_its_own() -> None:
    files = {
        commands.controller_flags(BASE, name)["kubeconfig"]
        for name in (CONTROLLER_MANAGER, SCHEDULER)
    }
    assert files == {
        f"/here/{CONTROLLER_MANAGER}.kubeconfig",
        f"/here/{SCHEDULER}.kubeconfig",
    }


def test_tokens_are_signed_by_the_key_that_is_given() -> None:
    made = options(service_account_key="/there/key", issuer="https://issuer")
    server = commands.api_server_flags(made, "http://etcd")
    manager = commands.controller_flags(made, CONTROLLER_MANAGER)
    assert server["service-account-issuer"] == "https://issuer"
    assert server["service-account-signing-key-file"] == "/there/key"
    assert manager["service-account-private-key-file"] == "/there/key"
