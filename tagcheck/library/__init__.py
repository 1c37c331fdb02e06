"""Where pictures and their tags live, a Hydrus client or a folder: walk, read, plan, write."""
