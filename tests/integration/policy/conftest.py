from __future__ import annotations

from collections.abc import Iterator

import pytest
from sandbox_lab import Lab
from sandbox_runs import introduce, sandbox
from switch_state import expect_exact_flows
from town import Town, build
from volley import Volley
from wire import taps


@pytest.fixture(scope="session")
def _lab() -> Iterator[Lab]:
    with sandbox("policytest", "a", 3) as made:
        yield made


@pytest.fixture(scope="session")
def _built(_lab: Lab) -> Town:
    made = build(_lab)
    introduce([*made.pods.values(), *made.quiet.values()])
    return made


@pytest.fixture
def town(_built: Town) -> Iterator[Town]:
    """A town without policies. After the test every switch has exactly the flows that it should
    have, of the policies that the test has left, and of none.
    """
    yield _built
    expect_exact_flows(_built.lab)
    _built.reset()
    _built.settle()
    expect_exact_flows(_built.lab)


@pytest.fixture
def volley(town: Town) -> Iterator[Volley]:
    """Sends first packets into the town."""
    with taps(town.places) as opened:
        yield Volley(town, opened)
