"""What is the same in tests that speak to an API server."""

import pytest

from ovsnet.api import connect


@pytest.fixture
def connection(server):
    """A connection to the API server that the test has chosen."""
    made = connect(server.kubeconfig)
    yield made
    made.close()
