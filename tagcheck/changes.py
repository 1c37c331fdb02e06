"""One change of one tag of one picture, as reports, decisions, the ledger and libraries name it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TagChange:
    """What the owner accepted for one picture: `tag` is to be there ("add") or not ("remove")."""

    hash: str
    tag: str
    action: str  # "add" | "remove"
