"""From pixels to one stored vector a picture: the taggers and the shards."""

from tagcheck.embedding.store import Embeddings, ShardWriter, TagHead

__all__ = ["Embeddings", "ShardWriter", "TagHead"]
