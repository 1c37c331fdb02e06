"""From a file's bytes to the square of pixels that a network was trained on."""
