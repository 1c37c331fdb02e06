"""What the rows of the ledger say about the changes that their owner accepted."""

from collections.abc import Iterable

from tagcheck.writing.ledger import APPLIED, FAILED, OPEN, SETTLED, UNDONE, URGENCY, WRITTEN, LedgerRow

# In the review store's words; "waiting": the ledger has it, and what becomes of it is still to come.
OUTCOMES = {
    OPEN: "waiting",
    WRITTEN: "waiting",
    FAILED: "failed",
    APPLIED: "applied",
    UNDONE: "undone",
    SETTLED: "applied",
}


def outcomes(rows: Iterable[LedgerRow]) -> list[tuple[tuple[str, str, str], str, str, int]]:
    """((hash, tag, action), outcome, reason, batch) of each change: the last batch's, and what needs most attention."""
    found: dict[tuple[str, str, str], LedgerRow] = {}
    for row in rows:
        last = found.setdefault((row.hash, row.tag, row.action), row)
        if (-row.batch, URGENCY.index(row.status)) < (-last.batch, URGENCY.index(last.status)):
            found[row.hash, row.tag, row.action] = row
    return [(key, OUTCOMES[row.status], row.reason, row.batch) for key, row in found.items()]
