"""Unit rows: every pair above a cosine, and the nearest rows of each."""
