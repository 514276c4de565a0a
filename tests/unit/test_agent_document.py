"""docs/agent.md: it has every option, as the code has them today."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from ovsnet.cni.conf import KNOWN_FIELDS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def agent() -> ModuleType:
    spec = importlib.util.spec_from_file_location("agent_document", DOCS / "agent.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_field_of_the_network_configuration_is_explained(agent: ModuleType) -> None:
    assert agent.FIELDS.keys() == KNOWN_FIELDS


def test_the_page_is_up_to_date(agent: ModuleType) -> None:
    page = agent.document()
    assert page == (DOCS / "agent.md").read_text(), "run `make docs` and commit the page"
