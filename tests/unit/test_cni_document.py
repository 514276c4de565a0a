"""docs/cni.md: it has every verb, version and error code."""

import re
from pathlib import Path

from ovsnet.cni.conf import VERSIONS, Verb
from ovsnet.cni.errors import Code

PAGE = (Path(__file__).parents[2] / "docs" / "cni.md").read_text()


def test_every_error_code_is_explained() -> None:
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.M)} == set(Code)


def test_every_verb_is_explained() -> None:
    assert set(re.findall(r"^\| `([A-Z]+)` \|", PAGE, re.M)) == {verb.value for verb in Verb}


def test_every_version_is_named() -> None:
    assert all(version in PAGE for version in VERSIONS)
