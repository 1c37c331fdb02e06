"""Accepted changes go to the library; each is in the ledger and can be undone."""
