"""The API edge: credentials, lists and watches of the Kubernetes API server."""
