"""The controller: API state in, the flows of every node out."""
