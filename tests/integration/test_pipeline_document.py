"""docs/pipeline.md: it is what the code and a real switch say today."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def pipeline() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pipeline_document", DOCS / "pipeline.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_flow_of_the_compiler_is_explained(pipeline: ModuleType) -> None:
    assert pipeline.explained().keys() == {flow.key for flow in pipeline.every_flow()}


def test_the_page_is_up_to_date(pipeline: ModuleType) -> None:
    page = pipeline.document(pipeline.real_dump(pipeline.every_flow()))
    assert page == (DOCS / "pipeline.md").read_text(), "run `make docs` and commit the page"
