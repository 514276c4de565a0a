"""The real control plane of Kubernetes: etcd, kube-apiserver and what works for them.

One process, `python -m ovsnet.sandbox.controlplane OPTIONS.json`, starts the programs, sees that
they answer, and ends with them; `start.running` does that for as long as a `with` lasts.
"""
