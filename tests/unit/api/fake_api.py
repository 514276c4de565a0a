"""An API server of pods that is all in memory, remembers every state it was in, and can misbehave;
and one of Events.

The first answers a `Get` of the reflector with bytes, the second the recorder's requests; nothing
here does input or output.
"""

from __future__ import annotations

import base64
import json
import threading

from ovsnet.api.connection import UnreachableError
from ovsnet.model import Phase, Pod, PodRef


def pod_object(name, uid, version, label, *, broken=False, note=0):
    """A Pod as the API has it, with much that the network does not look at."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": uid,
            "resourceVersion": str(version),
            "labels": {"v": str(label)},
            "annotations": {"note": str(note)},
            "managedFields": [{"manager": "x", "fieldsV1": {"f:metadata": {}}}],
        },
        "spec": {"nodeName": 7 if broken else "node-1", "containers": None},
        "status": {"phase": "Running"},
    }


def model_of(thing):
    """The independent reading of `pod_object`: what the network must see of it, None if broken."""
    if not isinstance(thing["spec"]["nodeName"], str):
        return None
    meta = thing["metadata"]
    return Pod(
        namespace="shop",
        name=meta["name"],
        uid=meta["uid"],
        node="node-1",
        labels=(("v", meta["labels"]["v"]),),
        phase=Phase.RUNNING,
    )


class FakeAPI:
    """Pods, their history, and how much of it was forgotten."""

    def __init__(self):
        self.version = 1
        self.live = {}
        self.log = []
        self.forgotten = 0
        self.states = {1: {}}
        self.uids = 0
        self.labels = 0

    # What happens to the objects.

    def write(self, name, *, broken=False, quiet=False):
        """Creates a pod, or changes it: in something that matters, or only in its annotations."""
        self.version += 1
        before = self.live.get(name)
        if before is None:
            self.uids += 1
        uid = before["metadata"]["uid"] if before else f"uid-{self.uids}"
        label = int(before["metadata"]["labels"]["v"]) if before else 0
        if not (quiet and before):
            self.labels += 1
            label = self.labels
        thing = pod_object(name, uid, self.version, label, broken=broken, note=self.version)
        self._log("MODIFIED" if before else "ADDED", name, thing)

    def delete(self, name):
        """Deletes a pod, if it is there. The event carries the version of the deletion."""
        before = self.live.get(name)
        if before is None:
            return
        self.version += 1
        thing = json.loads(json.dumps(before))
        thing["metadata"]["resourceVersion"] = str(self.version)
        self._log("DELETED", name, thing)

    def _log(self, kind, name, thing):
        self.log.append((self.version, kind, thing))
        self.live = dict(self.live)
        if kind == "DELETED":
            del self.live[name]
        else:
            self.live[name] = thing
        self.states[self.version] = self.live

    def compact(self):
        """Forgets the history so far."""
        self.forgotten = self.version

    def at(self, version):
        """What the network must know at a version."""
        seen = {name: model_of(thing) for name, thing in self.states[version].items()}
        return {PodRef("shop", name): pod for name, pod in seen.items() if pod is not None}

    def values_of(self, key):
        """Every state that a pod went through, in order: `(version, model or None)`."""
        return [
            (version, None if kind == "DELETED" else model_of(thing))
            for version, kind, thing in self.log
            if thing["metadata"]["name"] == key.name
        ]

    # What it answers.

    def page(self, query, *, at=None):
        """Status and body of one page of a list, or 410 if its snapshot is forgotten."""
        start, version = 0, at or self.version
        if "continue" in query:
            start, version = json.loads(base64.b64decode(query["continue"]))
            if version < self.forgotten:
                return 410, status(410, "The provided continue parameter is too old")
        things = sorted(self.states[version].items())
        end = start + int(query["limit"])
        more = base64.b64encode(json.dumps([end, version]).encode()).decode()
        body = {
            "kind": "PodList",
            "metadata": {
                "resourceVersion": str(version),
                "continue": more if end < len(things) else "",
            },
            "items": [thing for _, thing in things[start:end]] or None,
        }
        return 200, json.dumps(body).encode()

    def events_after(self, version):
        """What a watch from a version has to tell; None if that is forgotten."""
        if version < self.forgotten:
            return None
        return [entry for entry in self.log if entry[0] > version]


def line(kind, thing):
    return json.dumps({"type": kind, "object": thing}).encode() + b"\n"


def bookmark(version):
    return line("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": str(version)}})


def status(code, message):
    body = {"kind": "Status", "status": "Failure", "code": code, "message": message}
    return json.dumps(body).encode()


def error(code, message="refused"):
    return line("ERROR", json.loads(status(code, message)))


class FakeAnswer:
    """A response as `ovsnet.api.connection.Response` has it."""

    def __init__(self, code, body=b"", retry_after=0.0):
        self.status = code
        self.retry_after = retry_after
        self._body = body

    def chunks(self):
        yield self._body

    def close(self):
        pass


class FakeEvents:
    """Events by their path.

    `ails` are what befalls the next requests: an exception or a `FakeAnswer` in place of what they
    ask for, a function that is called before, `"answer lost"` after it was done, None for nothing.
    """

    def __init__(self):
        self.events = {}
        self.requests = []
        self.ails = []
        self.changed = threading.Condition()

    def get(self, path, query, silence):
        return self._request("GET", path, lambda: self._found(path))

    def post(self, path, body, silence):
        return self._request("POST", path, lambda: self._create(path, json.loads(body)))

    def patch(self, path, body, silence):
        return self._request("PATCH", path, lambda: self._merge(path, json.loads(body)))

    def wait(self, condition, seconds=20):
        """Waits until a condition holds after some request."""
        with self.changed:
            assert self.changed.wait_for(condition, seconds), (self.events, self.requests)

    def _request(self, method, path, do):
        with self.changed:
            self.requests.append(f"{method} {path}")
            ail = self.ails.pop(0) if self.ails else None
            if callable(ail):
                ail()
            answer = ail if isinstance(ail, Exception | FakeAnswer) else do()
            self.changed.notify_all()
        if isinstance(answer, Exception):
            raise answer
        if ail == "answer lost":
            raise UnreachableError("the answer was lost")
        return answer

    def _found(self, path):
        if path not in self.events:
            return FakeAnswer(404, status(404, "not found"))
        return FakeAnswer(200, json.dumps(self.events[path]).encode())

    def _create(self, path, event):
        name = f"{path}/{event['metadata']['name']}"
        if name in self.events:
            return FakeAnswer(409, status(409, "already exists"))
        self.events[name] = event
        return FakeAnswer(201, json.dumps(event).encode())

    def _merge(self, path, changes):
        found = self._found(path)
        if found.status == 200:
            self.events[path] |= changes
        return found
