"""The plugin under libcni, the library that container runtimes call plugins with."""
