"""The one row in which Open vSwitch keeps its TLS settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from ovsnet.cni.credentials import Files
from ovsnet.cni.sslrow import Taken, desired, reconcile

WANTED = desired(Files(Path("/var/lib/ovsnet/tls")))
OURS = ["map", [["owner", "ovsnet"]]]


def test_without_one_it_is_made():
    insert, update = reconcile(WANTED, None)
    assert insert["row"] == {
        "private_key": "/var/lib/ovsnet/tls/node.pem",
        "certificate": "/var/lib/ovsnet/tls/node.pem",
        "ca_cert": "/var/lib/ovsnet/tls/ca.crt",
        "bootstrap_ca_cert": False,
        "external_ids": OURS,
    }
    assert update["row"] == {"ssl": ["named-uuid", insert["uuid-name"]]}


@pytest.mark.parametrize("owner", [OURS, ["map", []]])
def test_one_that_names_the_files_stays(owner):
    assert reconcile(WANTED, WANTED | {"external_ids": owner}) == []


def test_one_of_ours_with_other_files_is_replaced():
    present = WANTED | {"ca_cert": "/elsewhere", "external_ids": OURS}
    assert len(reconcile(WANTED, present)) == 2


@pytest.mark.parametrize("owner", [["map", []], ["map", [["owner", "somebody"]]]])
@pytest.mark.parametrize("column", ["private_key", "certificate", "ca_cert"])
def test_one_of_somebody_else_is_left_alone(column, owner):
    with pytest.raises(Taken, match="del-ssl"):
        reconcile(WANTED, WANTED | {column: "/elsewhere", "external_ids": owner})
