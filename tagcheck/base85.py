"""Bytes as text by base 85, as Python's `base64.b85encode` has it, which takes twenty times as long."""

from typing import Any

DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
NONE = 255


def encoded(data: bytes) -> str:
    """Four bytes are five characters.

    >>> encoded(b"tags"), decoded(encoded(b"tag"))
    ('bYW+6', b'tag')
    """
    np = _numpy()
    words = np.frombuffer(data + bytes(-len(data) % 4), dtype=">u4").astype(np.uint32)
    digits = np.empty((len(words), 5), dtype=np.uint8)
    for place in range(4, -1, -1):
        words, digits[:, place] = np.divmod(words, np.uint32(85))
    return bytes(np.frombuffer(DIGITS, np.uint8)[digits].tobytes()[: len(data) + -(-len(data) // 4)]).decode()


def decoded(text: str) -> bytes:
    """The bytes again. Raises `ValueError` for what is no such text, `AttributeError` for no text."""
    np = _numpy()
    given = text.encode("ascii")
    number = np.full(256, NONE, dtype=np.uint8)
    number[np.frombuffer(DIGITS, np.uint8)] = np.arange(85)
    digits = number[np.frombuffer(given + DIGITS[-1:] * (-len(given) % 5), np.uint8)].reshape(-1, 5)
    words = digits.astype(np.int64) @ 85 ** np.arange(4, -1, -1)
    if (digits == NONE).any() or (words >= 2**32).any():
        raise ValueError("it is not base 85")
    made: bytes = words.astype(">u4").tobytes()
    return made[: len(given) * 4 // 5]


def _numpy() -> Any:
    import numpy  # here: a program that only answers a question need not load it

    return numpy
