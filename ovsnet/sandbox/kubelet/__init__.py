"""A stand-in for kubelet and its container runtime: pods that are network namespaces."""
