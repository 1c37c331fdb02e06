"""A folder of pictures with sidecar tag files as a library."""
