"""`ovsnet explain`: dumps as ovs-ofctl prints them, with and without a controller at hand."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from ovsnet.cli import controller
from ovsnet.cli.explain import port_numbers
from ovsnet.cli.main import main
from ovsnet.flows.flow import Owner, OwnerKind
from ovsnet.names import Table

COOKIE = Owner(OwnerKind.POD, "shop/web").cookie
HEADING = "OFPST_FLOW reply (OF1.5) (xid=0x2):"
POD_LINE = (
    f" cookie={COOKIE:#x}, duration=5.1s, table=0, n_packets=12, n_bytes=1176, idle_age=3, "
    "priority=100,in_port=5 actions=set_field:0x1/0xf->reg0,goto_table:1"
)
NAMED_LINE = (
    f' cookie={COOKIE:#x}, duration=5.1s, table="spoof_guard", n_packets=0, n_bytes=0, '
    'priority=100,ip,in_port="web-3kf7q2ab" actions=goto_table:conntrack'
)
OUTPUT_LINE = " cookie=0x0, table=output, priority=0 actions=output:NXM_NX_REG1[]"
SERVICE_LINE = (
    f" cookie={Owner(OwnerKind.SERVICE, 'shop/web').cookie:#x}, table=service, priority=100,tcp,"
    "nw_dst=10.96.0.1,tp_dst=80 actions=set_field:0xb->reg4,set_field:0xc->reg5,"
    "ct(table=service_state,zone=65521,nat)"
)
STRANGER = (
    " cookie=0x0, duration=1s, table=0, n_packets=1, n_bytes=2, priority=9 actions=pop_mpls:2"
)


@pytest.fixture
def owners(monkeypatch):
    """What the controller tells; None stands for a controller that is away."""
    told = {"body": json.dumps({f"{COOKIE:#x}": "pod shop/web"}).encode(), "asked": 0}

    def fetch(target, path, seconds):
        if path == "/sets":
            return json.dumps({"0xb0000000c": "shop/web, port http, over IPv4"}).encode()
        told["asked"] += 1
        assert path == "/owners"
        if told["body"] is None:
            raise controller.UnreachableError("nobody there")
        return told["body"]

    monkeypatch.setattr(controller, "fetch", fetch)
    return told


def explain(*lines, options=()):
    return CliRunner().invoke(main, ["explain", *options], input="\n".join(lines))


def test_a_line_with_its_table_s_purpose_its_owner_and_its_meaning(owners):
    result = explain(HEADING, POD_LINE)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        POD_LINE.strip(),
        f"    table  classify: {Table.CLASSIFY.purpose}",
        "    owner  pod shop/web",
        "    takes  all packets, in by port 5",
        "    does   noted: source pod; on to spoof_guard",
        "    seen   12 packets, 1176 bytes",
    ]


def test_named_ports_and_tables(owners):
    result = explain(NAMED_LINE, "", OUTPUT_LINE)
    assert result.exit_code == 0
    assert "in by port web-3kf7q2ab" in result.stdout
    assert "sent out of the port in out-port" in result.stdout


def test_sets_of_endpoints_by_the_services_that_have_them(owners):
    result = explain(SERVICE_LINE)
    assert result.exit_code == 0
    assert "    takes  TCP over IPv4, destination 10.96.0.1, destination port 80\n" in result.stdout
    assert (
        "    does   noted: for the endpoints of shop/web, port http, over IPv4; tracked "
        in result.stdout
    )
    owners["body"] = None
    result = explain(SERVICE_LINE)
    assert "    owner  a service\n" in result.stdout
    assert "    does   noted: for the set of endpoints 0xb0000000c; tracked" in result.stdout


@pytest.mark.parametrize("body", [None, b"<html>", b'{"nonsense": "x"}'])
def test_without_a_controller_the_sort_of_owner_is_known(owners, body):
    owners["body"] = body
    result = explain(POD_LINE)
    assert result.exit_code == 0
    assert "    owner  a pod\n" in result.stdout
    assert "told by their sort alone" in result.stderr


def test_a_line_that_is_no_flow_of_ours_is_shown_as_it_is(owners):
    result = explain(STRANGER, POD_LINE)
    assert result.exit_code == 0
    assert STRANGER.strip() in result.stdout
    assert "cannot be read as a flow of ovsnet" in result.stdout
    assert "pod shop/web" in result.stdout


@pytest.mark.parametrize("lines", [(), (HEADING,), ("hello", "world"), (STRANGER,)])
def test_nothing_that_could_be_read(owners, lines):
    result = explain(*lines)
    assert result.exit_code == 1
    assert "not one line could be read" in result.stderr
    assert owners["asked"] == (1 if lines == (STRANGER,) else 0)


def test_json(owners):
    result = explain(HEADING, POD_LINE, STRANGER, options=["--json"])
    assert result.exit_code == 0
    flow, stranger = json.loads(result.stdout)
    assert flow == {
        "line": POD_LINE.strip(),
        "table": "classify",
        "purpose": Table.CLASSIFY.purpose,
        "priority": 100,
        "cookie": f"{COOKIE:#x}",
        "owner": "pod shop/web",
        "packets": "all packets, in by port 5",
        "outcome": "noted: source pod; on to spoof_guard",
        "seen_packets": 12,
        "seen_bytes": 1176,
    }
    assert set(stranger) == {"line", "error"}
    assert json.loads(explain(options=["--json"]).stdout) == []


def test_a_file(owners, tmp_path):
    dump = tmp_path / "dump"
    dump.write_bytes(POD_LINE.encode() + b"\n\xff\xfe\n")
    result = CliRunner().invoke(main, ["explain", str(dump)])
    assert result.exit_code == 0
    assert "pod shop/web" in result.stdout
    assert CliRunner().invoke(main, ["explain", str(tmp_path / "none")]).exit_code == 2


def test_names_of_ports_in_a_dump():
    found = port_numbers([NAMED_LINE, OUTPUT_LINE, "in_port=eth0.1 actions=output:veth-x,output:7"])
    assert set(found) == {"ovsnet-gw0", "ovsnet-tun0", "web-3kf7q2ab", "eth0.1", "veth-x"}
    assert len(set(found.values())) == len(found)
