"""Numbers of things in words."""


def plural(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun, or with all that goes with the noun.

    >>> plural(1, "finding"), plural(1200, "finding"), plural(1, "is gone", "are gone")
    ('1 finding', '1,200 findings', '1 is gone')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"
