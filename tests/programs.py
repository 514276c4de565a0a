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
