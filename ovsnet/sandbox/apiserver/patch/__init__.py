"""The three kinds of patch that change an object without knowing all of it."""
