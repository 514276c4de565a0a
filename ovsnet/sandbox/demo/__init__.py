"""The demonstration: an application on a sandbox, and proof that its network works."""
