"""What was found, what the owner decided, and what is still to see (review.sqlite3)."""
