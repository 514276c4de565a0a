"""NetworkPolicy in force: from policies and pods to the flows that come and go on every node."""
