"""What a tag is: cleaning, namespaces, and how booru names become Hydrus names. Pure text.

A tag is written `namespace:subtag`, or `subtag` alone. Hydrus keeps tags lower-case with spaces;
boorus write underscores.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

# What `mark_in_hydrus.py` writes, so that one can search for it there. These are no tags of the owner's, whichever service they are on.
MARKS = ("tagcheck:missing", "tagcheck:wrong", "tagcheck:copy")
PERSON_NAMESPACES = ("person", "character", "creator")
_FACES = (
    r"^_^ >_< =_= 0_0 o_o 3_3 6_9 >_o @_@ ._. u_u x_x |_| ||_|| (o)_(o) +_+ +_- <o>_<o> <|>_<|> d_d >_@ t_t ;_; :< "
    r":> ;) :d ;d :o ;o :p ;p :q ;q :t :/ :3 :| c: d: >:) >:( \m/ \||/ xd"
)
KAOMOJI = frozenset(_FACES.split())
_MARK = r"[^\w\s()\[\]{}]"
_FACE = re.compile(rf"(\S)_\1|{_MARK}{{1,3}}_{_MARK}{{1,3}}|\w_{_MARK}|{_MARK}_\w|\\\(?{_MARK}?\w?{_MARK}?\)?/")
_TYPED = re.compile(r'"[^"\n]*,[^"\n]*"(?=\s*(?:[,\n]|$))|[^,\n\s][^,\n]*')
_SPACES = re.compile(r"\s+")


def clean(tag: str) -> str:
    """`tag` as Hydrus stores it: lower case, one space at most, no space at either end. "" when nothing is left.

    >>> clean("  Series:Some  Thing ")
    'series:some thing'
    """
    namespace, subtag = split(_SPACES.sub(" ", tag.strip().lower()))
    return join(namespace, subtag)


def typed(text: str) -> list[str]:
    """The tags that somebody typed or pasted: commas and line ends between them, a tag that holds a comma in double quotes.

    >>> typed('1girl, Long Hair,, 1girl'), typed('"oh, hello", :d'), typed('say "hi"')
    (['1girl', 'long hair'], ['oh, hello', ':d'], ['say "hi"'])
    """
    found = [one[1:-1] if "," in one and one[0] == one[-1] == '"' else one for one in _TYPED.findall(text)]
    return list(dict.fromkeys(filter(None, map(clean, found))))


def is_face(tag: str) -> bool:
    """Whether a tag is a face, whose underscores, brackets and backslashes stand for themselves.

    >>> is_face("T_T"), is_face(">_>"), is_face(r"\\(^o^)/"), is_face(":d"), is_face("x_y")
    (True, True, True, True, False)
    """
    low = tag.lower()
    return low in KAOMOJI or bool(_FACE.fullmatch(low))


@lru_cache(2**17)
def split(tag: str) -> tuple[str, str]:
    """(namespace, subtag). A colon at either end (`:d`, `3:`) makes no namespace, and neither does one in a kaomoji.

    >>> split("series:re:zero"), split(":d"), split("blue eyes")
    (('series', 're:zero'), ('', ':d'), ('', 'blue eyes'))
    """
    head, colon, rest = tag.partition(":")
    if not colon or not head.strip() or not rest.strip() or tag in KAOMOJI:
        return "", tag.strip()
    return head.strip(), rest.strip()


_SMALL = "a an and are at by from has her his in is it its of on the their there this to with"
SMALL_WORDS = frozenset(_SMALL.split())
SEVERAL = 3  # pictures that have one sentence


def is_sentence(text: str) -> bool:
    """Whether a caption is a sentence and no list of tags: small words, or a full stop behind several words.

    >>> is_sentence("a girl with long hair stands in a field"), is_sentence("1girl, long hair, hand on own hip")
    (True, False)
    """
    for part in re.split(r"[,;\n，、]", text):
        words = part.lower().rstrip(".").split()
        small = sum(word in SMALL_WORDS for word in words)
        if len(words) >= 5 and (small >= 2 or part.rstrip().endswith(".")):
            return True
    return False


def of_prose(uses: Mapping[str, int]) -> frozenset[str]:
    """Those of some tags that are pieces of sentences, and so are no tags to suggest: what stands between two commas of a caption. A
    sentence that several pictures (`uses`) have may be a title, and so may all in a namespace.

    >>> sorted(of_prose({"and warm skin tones": 9, "a hat on the head of a cat": 1, "a song of ice and fire": 5, "cat": 1}))
    ['a hat on the head of a cat', 'and warm skin tones']
    """
    return frozenset(
        tag
        for tag, count in uses.items()
        if " " in tag
        and not split(tag)[0]
        and (tag.startswith(("and ", "or ")) or (count < SEVERAL and is_sentence(tag)))
    )


def phrases(uses: Mapping[str, int]) -> frozenset[str]:
    """Those of some tags that are words of a caption rather than tags of their own: fewer than `SEVERAL` pictures (`uses`) have them, and
    they hold small words.

    >>> sorted(phrases({"freckles on nose": 1, "hand on own hip": 40, "frilled white dress": 1, "title:a hat": 1}))
    ['freckles on nose']
    """
    return frozenset(
        tag
        for tag, count in uses.items()
        if count < SEVERAL and " " in tag and not split(tag)[0] and not SMALL_WORDS.isdisjoint(tag.split())
    )


def join(namespace: str, subtag: str) -> str:
    """The tag of a namespace ("" for none) and a subtag."""
    return f"{namespace}:{subtag}" if namespace else subtag


@lru_cache(2**17)
def namespace(tag: str) -> str:
    """The namespace of a tag, "" when it has none."""
    return split(tag)[0]


def in_namespace(tags: Iterable[str], wanted: str) -> list[str]:
    """Those of `tags` in one namespace, sorted."""
    return sorted(tag for tag in tags if namespace(tag) == wanted)


class InNamespaces(dict[str, bool]):
    """`in_namespace` of many pictures and one namespace or more: a tag is looked at once, however many pictures have it.

    >>> InNamespaces("series", "person")(["hat", "series:b", "person:a"])
    ['person:a', 'series:b']
    """

    def __init__(self, *names: str) -> None:
        self.names = names

    def __missing__(self, tag: str) -> bool:
        self[tag] = found = namespace(tag) in self.names
        return found

    def __call__(self, owned: Iterable[str]) -> list[str]:
        return sorted(filter(self.__getitem__, owned))


def from_booru(name: str) -> str:
    """A booru's tag name in Hydrus' spelling: underscores become spaces, except in kaomoji.

    >>> from_booru("long_hair"), from_booru("^_^")
    ('long hair', '^_^')
    """
    return name.lower() if is_face(name) else clean(name.replace("_", " "))
