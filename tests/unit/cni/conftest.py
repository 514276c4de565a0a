from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flow_monitoring import ToldSwitch


@pytest.fixture
def told_switch(tmp_path: Path) -> Iterator[ToldSwitch]:
    with ToldSwitch(tmp_path / "br-int.mgmt") as found:
        yield found
