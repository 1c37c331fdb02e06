"""How many cases the test that runs now has tried, where that is more than one: `tests/reliability_table.py` writes it down."""

cases = 0


def count(number: int = 1) -> None:
    """So many cases more."""
    global cases
    cases += number
