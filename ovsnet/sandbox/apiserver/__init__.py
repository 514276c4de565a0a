"""An in-memory Kubernetes API server, for the sandbox and for tests alone.

It speaks enough of the Kubernetes API that kubectl, the official clients, the controller and a
kubelet cannot tell it from a real one in what they do here: lists and watches with resource
versions, conflicts, the patch types, server-side apply, deletion with grace and finalizers,
discovery, OpenAPI and server-side tables. It keeps everything in memory, knows no users, encrypts
nothing and allows everything: it is no place for anything that matters.

How a request travels: `server` accepts it, `request` says what it asks for, `handlers` turns it
into one call of `registry` (the verbs), which uses `kinds` (the table of what exists), `schema`,
`defaults`, `validation`, `patch` and `apply`, and writes to `store` (revisions, history, watch).
Everything below `handlers` is plain functions and values with no input or output.
"""
