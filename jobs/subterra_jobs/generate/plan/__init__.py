"""Which conversations to write: paths, values and styles."""
