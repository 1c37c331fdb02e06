"""What the scripts share: a ground of modules, and wings that may use it (docs/architecture.md)."""
