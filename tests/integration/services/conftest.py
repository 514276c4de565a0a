from __future__ import annotations

from collections.abc import Iterator

import pytest
from answerers import answerers
from market import Market, build
from programs import LENIENT_API_SERVER
from sandbox_runs import introduce, sandbox
from switch_state import expect_exact_flows


@pytest.fixture(scope="session")
def _built() -> Iterator[Market]:
    with (
        sandbox("svctest", "a", 3, embedded=LENIENT_API_SERVER) as lab,
        answerers() as answering,
    ):
        made = build(lab, answering)
        # One pod of each node: what has to become known is the nodes.
        introduce(made.pods[name] for name in ("a1", "a2", "a3"))
        yield made
        made.settle()
        expect_exact_flows(lab)


@pytest.fixture
def market(_built: Market) -> Iterator[Market]:
    """A market without services. After the test every switch has exactly the flows that it should
    have of the services that the test has left, and after the last one those of none.
    """
    yield _built
    expect_exact_flows(_built.lab)
    _built.clear()
