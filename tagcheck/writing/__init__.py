"""Accepted changes go to the library; each is in the ledger and can be undone."""

from tagcheck.writing.apply import BatchResult, Confirmed, Preview
from tagcheck.writing.ledger import Ledger, LedgerRow

__all__ = ["BatchResult", "Confirmed", "Ledger", "LedgerRow", "Preview"]
