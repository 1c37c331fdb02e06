"""A Hydrus client as a library."""
