"""Which tags of which pictures are likely missing or wrong, and why."""
