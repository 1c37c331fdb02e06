"""Ctrl-C and SIGTERM end a script in one line and with exit code 130, from its first line on.

Importing PyTorch and SciPy takes seconds, in which Python would show where it was. Only the standard library is used here.
"""

import os
import signal

MESSAGE = "error: interrupted; what was finished is kept, run the same command again to continue"
# The second on Windows.
ASKED_TO_END = [getattr(signal, name) for name in ("SIGTERM", "SIGBREAK") if hasattr(signal, name)]


def end_at_once() -> None:
    """From now on either signal ends this process: nothing is in hand, before a script's work as after it."""
    for one in (signal.SIGINT, *ASKED_TO_END):
        if signal.getsignal(one) is not signal.SIG_IGN:  # as in the background of a shell
            signal.signal(one, _end)


def raise_from_now_on() -> None:
    """From now on either signal is a `KeyboardInterrupt`, so that what is in hand is finished or cleared away."""
    for one in (signal.SIGINT, *ASKED_TO_END):
        if signal.getsignal(one) is not signal.SIG_IGN:
            signal.signal(one, signal.default_int_handler if one == signal.SIGINT else _raise)


def _end(signum: int, frame: object) -> None:
    os.write(2, MESSAGE.encode() + b"\n")
    os._exit(130)


def _raise(signum: int, frame: object) -> None:
    raise KeyboardInterrupt
