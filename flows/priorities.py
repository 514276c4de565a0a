"""Priorities of flows, by how soon they are tried.

Two flows of one table that can match the same packet share one only if both do the same.
"""

from __future__ import annotations

LAST = 0
ELSE = 25
OTHERWISE = 50
RATHER = 75
USUAL = 100
SOONER = 150
BEFORE = 200
AHEAD = 250
FIRST = 300
