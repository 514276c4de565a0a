"""For all integration tests: whatever they have started is taken down, also after SIGTERM."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sandbox_runs import ended_by_a_signal


@pytest.fixture(scope="session", autouse=True)
def _ended_by_a_signal() -> Iterator[None]:
    with ended_by_a_signal():
        yield
