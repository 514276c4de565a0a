"""Programs of the sandbox, each with the one thing that a test needs and no user does."""

from __future__ import annotations

UID_ANNOTATION = "tests/uid"
"""Annotation that says which uid a pod gets."""

API_SERVER_WITH_CHOSEN_UIDS = f"""
from ovsnet.sandbox.apiserver import __main__, registry
defaults = registry.set_defaults
def with_uid(kind, obj):
    defaults(kind, obj)
    uid = (obj["metadata"].get("annotations") or {{}}).get({UID_ANNOTATION!r})
    if uid:
        obj["metadata"]["uid"] = uid
registry.set_defaults = with_uid
__main__.main()
"""

LENIENT_API_SERVER = f"""
from ovsnet.sandbox.apiserver import services, validation_slice
services._Preparation._check_address = lambda *_: None
services._Preparation._port_problem = lambda *_: ""
services._Preparation._health_check = lambda *_: None
validation_slice.endpoint_address = lambda *_: ()
{API_SERVER_WITH_CHOSEN_UIDS}
"""
"""Takes services with addresses and node ports that they cannot have, and any endpoint."""

AGENT_THAT_DIES = """
import os, signal, sys
from pathlib import Path
from ovsnet import logs
from ovsnet.cni import agent, config
logs.configure(sys.stderr)
def checkpoint(step):
    if step == {step!r}:
        os.kill(os.getpid(), signal.SIGKILL)
agent.run(config.load(Path({file!r})), checkpoint)
"""
