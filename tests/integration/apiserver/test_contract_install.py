"""The manifests of an installed network. Runs on the embedded and on a real server."""

from __future__ import annotations

import deployed


def test_every_manifest_is_taken_as_it_stands(kubectl, target):
    applied = ("apply", "-k", str(deployed.DIRECTORY), "--validate=strict")
    try:
        said = kubectl(*applied, namespaced=False).splitlines()
        assert len(said) == len(deployed.objects())
        assert [line for line in said if not line.endswith(" created")] == []
        again = kubectl(*applied, namespaced=False).splitlines()
        # kubectl sends the selector of a budget anew each time: it is replaced whole.
        others = [line for line in again if not line.startswith("poddisruptionbudget")]
        assert [line for line in others if not line.endswith(" unchanged")] == []
    finally:
        removed = ("delete", "-k", str(deployed.DIRECTORY), "--wait=false", "--ignore-not-found")
        kubectl(*removed, namespaced=False)
