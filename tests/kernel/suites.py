"""Which tests run in which machine."""

from __future__ import annotations

from typing import NamedTuple


class Suite(NamedTuple):
    """Tests, as pytest's arguments, that share a machine, and the variables they run with."""

    name: str
    tests: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()


_TESTS = "tests/integration"
_GENEVE = (("OVSNET_TEST_TUNNEL", "geneve"),)

SUITES = (
    Suite("network", (f"{_TESTS}/network",)),
    Suite("network-geneve", (f"{_TESTS}/network",), _GENEVE),
    Suite("policy", (f"{_TESTS}/policy",)),
    Suite("services", (f"{_TESTS}/services",)),
    Suite("sctp", (f"{_TESTS}/sctp",)),
    Suite("cni", (f"{_TESTS}/cni",)),
    Suite("moving", (f"{_TESTS}/moving",)),
    Suite("settled", (f"{_TESTS}/settled",)),
    Suite("sandbox", (f"{_TESTS}/sandbox",)),
    Suite(
        "switch",
        (
            f"{_TESTS}/openflow",
            f"{_TESTS}/test_flow_text_switch.py",
            *(
                f"{_TESTS}/test_simulator_{part}.py"
                for part in ("connections", "learning", "pipeline", "trace", "zones")
            ),
        ),
    ),
)
"""What has to do with packets, and what needs SCTP."""
