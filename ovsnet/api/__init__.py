"""The API edge: credentials, lists and watches of the Kubernetes API server.

    connection = connect(Path("kubeconfig"))
    watches = [Watch(connection, kind, queue.put) for kind in KINDS]

Each watch tells its consumer of one kind of objects (`events`), as values of `ovsnet.model`. A
`Recorder` writes Events about objects that something is wrong with.
"""

from ovsnet.api.asking import NoAnswerError
from ovsnet.api.configmap import watch_config_map
from ovsnet.api.connection import Connection, CredentialsError, connect
from ovsnet.api.endpointslice import ENDPOINT_SLICE
from ovsnet.api.events import Changed, Deleted, Event, Fresh, Reached, Stale, Synced
from ovsnet.api.kept import Keep, Kept
from ovsnet.api.lease import Lease, LeaseStore
from ovsnet.api.listening import Listening, watch_listening
from ovsnet.api.namespace import NAMESPACE
from ovsnet.api.networkpolicy import NETWORK_POLICY
from ovsnet.api.node import NODE
from ovsnet.api.objects import AnyKind, Key, Kind
from ovsnet.api.pod import POD
from ovsnet.api.recorder import Recorder
from ovsnet.api.reflector import Timing
from ovsnet.api.remark import Remark, Subject
from ovsnet.api.service import SERVICE
from ovsnet.api.tokens import Review, TokenDesk
from ovsnet.api.watch import Watch, watch_node

KINDS: tuple[AnyKind, ...] = (NODE, NAMESPACE, POD, NETWORK_POLICY, SERVICE, ENDPOINT_SLICE)
"""Every kind that the network watches."""

__all__ = [
    "ENDPOINT_SLICE",
    "KINDS",
    "NAMESPACE",
    "NETWORK_POLICY",
    "NODE",
    "POD",
    "SERVICE",
    "AnyKind",
    "Changed",
    "Connection",
    "CredentialsError",
    "Deleted",
    "Event",
    "Fresh",
    "Keep",
    "Kept",
    "Key",
    "Kind",
    "Lease",
    "LeaseStore",
    "Listening",
    "NoAnswerError",
    "Reached",
    "Recorder",
    "Remark",
    "Review",
    "Stale",
    "Subject",
    "Synced",
    "Timing",
    "TokenDesk",
    "Watch",
    "connect",
    "watch_config_map",
    "watch_listening",
    "watch_node",
]
