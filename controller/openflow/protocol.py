"""Numbers of OpenFlow 1.5 (version 1.5.1 of the specification) that several modules need."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

OFP_VERSION: Final = 0x06
HEADER_OCTETS: Final = 8

FLOW_XID: Final = 1
"""Transaction id of every message inside a bundle: one for all, so that their bytes are shared."""

FIRST_XID: Final = 2
"""The first transaction id that a session uses for its own requests."""

NO_MASTER: Final = (1, 10)
"""Type and code of the error that only the master may do this (OFPBRC_IS_SLAVE)."""

STALE_GENERATION: Final = (11, 0)
"""Type and code of the error that another has led under a later generation id (OFPRRFC_STALE)."""

TABLE_ALL: Final = 0xFF
BUNDLES_CAPABILITY: Final = 1 << 9
"""Bit of the features reply that says the switch knows bundles (ofp_capabilities)."""


class Kind(IntEnum):
    """Types of messages (ofp_type)."""

    HELLO = 0
    ERROR = 1
    ECHO_REQUEST = 2
    ECHO_REPLY = 3
    FEATURES_REPLY = 6
    PORT_STATUS = 12
    FLOW_MOD = 14
    GROUP_MOD = 15
    MULTIPART_REQUEST = 18
    MULTIPART_REPLY = 19
    ROLE_REQUEST = 24
    ROLE_REPLY = 25
    ROLE_STATUS = 30
    BUNDLE_CONTROL = 33
    BUNDLE_ADD_MESSAGE = 34


class Multipart(IntEnum):
    """Types of multipart messages (ofp_multipart_type)."""

    DESCRIPTION = 0
    FLOW_DESCRIPTION = 1
    TABLE = 3
    PORT_DESCRIPTION = 13


class BundleControl(IntEnum):
    """What a bundle-control message asks or answers (ofp_bundle_ctrl_type)."""

    OPEN_REQUEST = 0
    OPEN_REPLY = 1
    CLOSE_REQUEST = 2
    CLOSE_REPLY = 3
    COMMIT_REQUEST = 4
    COMMIT_REPLY = 5
    DISCARD_REQUEST = 6
    DISCARD_REPLY = 7


class ControllerRole(IntEnum):
    """Roles that a controller may have at a switch (ofp_controller_role)."""

    NOCHANGE = 0
    EQUAL = 1
    MASTER = 2
    SLAVE = 3
