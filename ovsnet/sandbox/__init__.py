"""A cluster on one Linux machine, for trying out and for tests."""
