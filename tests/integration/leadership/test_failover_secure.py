"""What becomes of the network when the leader is killed or stopped, where everybody speaks TLS."""

from __future__ import annotations

import pytest
from test_failover import (  # noqa: F401  they are this module's tests
    test_a_leader_that_is_killed_is_not_missed_and_nothing_is_written,
    test_an_old_leader_that_wakes_up_writes_nothing,
    test_one_leads_and_the_others_know_all_it_knows,
)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def secure() -> bool:
    return True
