"""The shared package below the scripts: one floor of rooms, arrows pointing down only (see README)."""
