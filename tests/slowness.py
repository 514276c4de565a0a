"""How patient tests are: OVSNET_TEST_SLOW=4 has them wait four times as long for what must come."""

from __future__ import annotations

import os

SLOW = float(os.environ.get("OVSNET_TEST_SLOW", "1"))
