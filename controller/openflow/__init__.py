"""The OpenFlow edge: the only place that knows os-ken and the wire."""
