"""One change of one tag of one picture, as reports, decisions, the ledger and libraries name it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TagChange:
    """What the owner accepted for one picture: `tag` is to be there ("add") or not ("remove")."""

    hash: str
    tag: str
    action: str  # "add" | "remove"


FEWEST = 3  # changes


def put_back(gone: int, of: int) -> bool:
    """Whether `gone` changes, of a batch of `of`, read as before since an older copy of the library was put back, rather than taken back
    by hand, which would rather be done with the batch as a whole, or with one change or two.

    >>> put_back(1, 1), put_back(4, 20), put_back(19, 20)
    (False, False, True)
    """
    return gone >= FEWEST and 2 * gone > of
