"""Questions about the cluster: why one end reaches another or not, what a policy would change."""
