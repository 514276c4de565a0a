"""The command ovsnet."""
