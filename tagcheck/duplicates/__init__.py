"""Copies of one picture: how alike their pixels are, which tags to carry over."""
