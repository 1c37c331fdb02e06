"""Where pictures and their tags live, a Hydrus client or a folder: walk, read, plan, write."""

from tagcheck.library.choose import LibrarySettings, open_library
from tagcheck.library.protocol import FileInfo, Library, NoWrite, TagService, TagWrite
from tagcheck.library.refresh import refresh_tags, tag_fields

__all__ = [
    "FileInfo",
    "Library",
    "LibrarySettings",
    "NoWrite",
    "TagService",
    "TagWrite",
    "open_library",
    "refresh_tags",
    "tag_fields",
]
