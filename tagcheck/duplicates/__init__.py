"""Copies of one picture: which is best, which tags to carry over."""
