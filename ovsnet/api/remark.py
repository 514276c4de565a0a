"""What there is to say about an object, as an Event (core/v1).

`kubectl events --for KIND/NAME` shows them; `kubectl describe` does so for most kinds, but not for
NetworkPolicies.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import msgspec

COMPONENT = "ovsnet"
WARNING = "Warning"
_LONGEST_MESSAGE = 1000
_LONGEST_NAME = 200


class Subject(msgspec.Struct, frozen=True):
    """An object in a namespace, by everything that an ObjectReference needs."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


class Remark(msgspec.Struct, frozen=True):
    """A warning about an object: a reason in one word (CamelCase), and a message.

    `about` is the part of the object that it concerns. What is said later for the same reason of
    the same part takes the place of what was said before.
    """

    subject: Subject
    reason: str
    message: str
    about: str = ""


def events_path(remark: Remark) -> str:
    """Where the API has the Events of the object's namespace."""
    return f"/api/v1/namespaces/{remark.subject.namespace}/events"


def event_name(remark: Remark) -> str:
    """The Event's name: always the same one, so that it is found again after a restart."""
    subject = remark.subject
    told = "\0".join((subject.kind, subject.name, subject.uid, remark.reason, remark.about))
    digest = hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
    return f"{subject.name[:_LONGEST_NAME].rstrip('-.')}.{digest}"


def first_event(remark: Remark, now: float) -> bytes:
    """The Event as it is created; `now` in seconds since 1970."""
    subject = remark.subject
    return msgspec.json.encode(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": subject.namespace, "name": event_name(remark)},
            "involvedObject": {
                "apiVersion": subject.api_version,
                "kind": subject.kind,
                "namespace": subject.namespace,
                "name": subject.name,
                "uid": subject.uid,
            },
            "type": WARNING,
            "reason": remark.reason,
            "message": _cut(remark.message),
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "firstTimestamp": _timestamp(now),
            "lastTimestamp": _timestamp(now),
            "count": 1,
        }
    )


def repeated_event(remark: Remark, count: int, now: float) -> bytes:
    """What changes of the Event when it happens for the `count`-th time (merge patch)."""
    return msgspec.json.encode(
        {"message": _cut(remark.message), "lastTimestamp": _timestamp(now), "count": count}
    )


class _Counted(msgspec.Struct, frozen=True):
    count: int | None = None


def count_of(event: bytes) -> int:
    """How often an Event has happened, from its JSON; 1 if it does not say."""
    try:
        return msgspec.json.decode(event, type=_Counted).count or 1
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return 1


def _cut(message: str) -> str:
    """The message; the API takes one kilobyte (events.k8s.io/v1, `note`)."""
    text = message.encode()
    if len(text) <= _LONGEST_MESSAGE:
        return message
    return f"{text[:_LONGEST_MESSAGE].decode(errors='ignore')}..."


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
