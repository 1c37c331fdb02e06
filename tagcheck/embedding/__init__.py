"""From pixels to one stored vector a picture: the taggers and the shards."""
