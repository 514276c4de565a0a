"""Controllers that keep their authorities in an API that is all in memory, and what it says of
tokens.
"""

from __future__ import annotations

import threading
from datetime import timedelta

from trust_authority import NOW

from ovsnet.api import Kept, NoAnswerError, Review
from ovsnet.controller.trust.authority import Terms
from ovsnet.controller.trust.keyring import Keyring

TERMS = Terms(life=timedelta(days=100), successor=timedelta(days=30), overlap=timedelta(days=5))


class Place:
    """One object of an API, with versions; before it writes it does what a test wants."""

    def __init__(self):
        self.kept = None
        self.version = 0
        self.away = False
        self.before_write = []
        self.writes = 0
        self.lock = threading.Lock()

    def read(self):
        if self.away:
            raise NoAnswerError("the API server answers 503")
        return self.kept

    def write(self, data, before):
        if self.away:
            raise NoAnswerError("the API server answers 503")
        if self.before_write:
            self.before_write.pop()()
        with self.lock:
            found = self.kept.metadata if self.kept else None
            if found != (before.metadata if before else None):
                return False
            self.version += 1
            self.writes += 1
            self.kept = Kept(dict(data), {"resourceVersion": str(self.version)})
            return True


class Stage:
    """Controllers of one cluster, and their clock."""

    def __init__(self, controllers=1):
        self.secret, self.published = Place(), Place()
        self.now = NOW
        self.all = [self.controller() for _ in range(controllers)]

    def controller(self):
        return Keyring(self.secret, self.published, terms=TERMS, clock=self.clock)

    def clock(self):
        return self.now.timestamp()

    def rounds(self):
        for each in self.all:
            each.round()

    @property
    def bundle(self):
        return self.published.kept.data["ca.crt"]


POD = {"pod-name": ["agent-x"], "pod-uid": ["u-1"]}
NODE = {"node-name": ["node-1"], "node-uid": ["u-2"]}


class Desk:
    """Knows one token, and the pods that a test gives it."""

    def __init__(self, **changes):
        extra = changes.pop("extra", POD | NODE)
        said = {
            "authenticated": True,
            "user": "system:serviceaccount:ovsnet-system:ovsnet-node",
            "audiences": ("ovsnet-controller",),
            "extra": {f"authentication.kubernetes.io/{k}": v for k, v in extra.items()},
        }
        self.answer = Review(**(said | changes))
        self.pods = {}
        self.asked = []

    def review(self, token, audience):
        self.asked.append((token, audience))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def node_of_pod(self, namespace, name, uid):
        self.asked.append((namespace, name, uid))
        found = self.pods.get((namespace, name, uid))
        if isinstance(found, Exception):
            raise found
        return found
