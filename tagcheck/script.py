"""What the scripts share at their edge: options, progress, and one place where errors become exit codes.

Exit codes: 0 done (with or without findings), 1 the system refused (disk full, no right to
read or write), 2 usage, 3 an input is missing, 4 a file is not what it says, 5 the library cannot be
reached or refuses, 130 interrupted or cancelled.
"""

from __future__ import annotations

import argparse
import errno
import math
import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tagcheck import children, files, interruption, memory
from tagcheck.data_folder import DataFolder
from tagcheck.errors import Cancelled, MissingInput, ToolError, UsageError, short

if TYPE_CHECKING:
    from tqdm import tqdm

T = TypeVar("T")
PROJECT = Path(__file__).resolve().parent.parent
DEVICES = ("auto", "cpu", "cuda", "mps")  # where PyTorch may compute
FREE_SPACE = "free some space or choose another --data-dir"
LEAD_ELSEWHERE = "free some space where the output is written, or lead it elsewhere"
NO_MEMORY = ("OutOfMemoryError", "DefaultCPUAllocator")  # how PyTorch says it, of a graphics card and of the processor
GRANT = "grant the right to it or choose another --data-dir"
CHECK_IT = "see what is wrong there"
WAYS_OUT = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), FREE_SPACE)
WAYS_OUT |= dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), GRANT)


def run(main: Callable[[], int | None]) -> None:
    """Call `main` and end the process with the exit code its outcome deserves, one line on stderr for an error.

    SIGTERM ends it as Ctrl-C does: what is in hand is finished or cleared away.
    """
    interruption.end_at_once()
    prepare_console()
    children.end_with_parent()
    try:
        interruption.raise_from_now_on()
        code = main() or 0
        sys.stdout.flush()
        interruption.end_at_once()
    except ToolError as error:
        code = fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        interruption.end_at_once()
        code = fail(interruption.MESSAGE.removeprefix("error: "), 130)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(words in repr(error) for words in NO_MEMORY):
            raise
        detail = f" ({short(error)})" if str(error) else ""
        code = fail(f"not enough memory{detail}: close other programs, then run the same command again", 1)
    except OSError as error:
        if _is_broken_pipe(error):
            if not nobody_reads():
                raise  # a pipe of ours to another process: the work is not done
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(0) from None
        if error.errno is None:  # a network library's own errors: a mistake of ours, not of the machine
            raise
        way_out = WAYS_OUT.get(error.errno, CHECK_IT)
        if not error.filename and way_out == FREE_SPACE:  # whatever is written into the data folder names its file
            way_out = LEAD_ELSEWHERE
        said = f"{error.strerror} ({error.filename})" if error.filename else str(error.strerror)
        code = fail(f"{said}: {way_out}, then run the same command again", 1)
    raise SystemExit(code)


def _is_broken_pipe(error: OSError) -> bool:
    """Whether a pipe's reader has gone, which Windows calls an invalid argument, of no file."""
    unnamed = os.name == "nt" and error.errno == errno.EINVAL and error.filename is None
    return isinstance(error, BrokenPipeError) or unnamed


def nobody_reads() -> bool:
    """Whether who read our output has closed it, as `head` does. Where the system cannot tell, a broken pipe means that."""
    if not hasattr(select, "poll"):
        return True
    watched = select.poll()
    for number in (1, 2):
        watched.register(number, 0)  # for errors alone
    return bool(watched.poll(0))


def prepare_console() -> None:
    """Let any text be printed: what the console's code page lacks comes as an escape, instead of an error after the work. A closed
    stream becomes the null device, so that no file opened later gets its number. All are closed where Windows starts a program without a console.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(nowhere, True)  # to our processes, as the streams are
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8", closefd=False))
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def print_for_programs() -> None:
    """From now on stdout is UTF-8, its line ends as they are printed: into a file Windows would write its code page and other ends."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", newline="")


def fail(message: str, code: int) -> int:
    """Print one error line on stderr and return `code`."""
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return code


def plain_parser(doc: str) -> argparse.ArgumentParser:
    """A parser whose help is the script's own docstring."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )


def parser(doc: str) -> argparse.ArgumentParser:
    """`plain_parser` with `--data-dir` on it."""
    made = plain_parser(doc)
    what = "the folder that all stages share (default: the environment's DATASET_DIR, else the project's root)"
    made.add_argument("--data-dir", metavar="DIR", type=path, help=what)
    return made


def add_whole(
    made: argparse._ActionsContainer, flag: str, help: str, default: Any = None, low: int = 1, **more: Any
) -> None:
    """An option that takes a whole number, `low` or more; several numbers where `default` is a list."""
    add_option(made, flag, help, default, type=bounded(int, low), **{"metavar": "N"} | more)


def add_number(
    made: argparse._ActionsContainer,
    flag: str,
    help: str,
    default: float | None = None,
    low: float = 0,
    high: float = 1,
) -> None:
    """An option that takes a number from `low` to `high`."""
    add_option(made, flag, help, default, type=bounded(float, low, high), metavar="X")


def add_switch(made: argparse._ActionsContainer, flag: str, help: str) -> None:
    """An option that takes nothing and is off without being given."""
    made.add_argument(flag, action="store_true", help=help)


def add_option(made: argparse._ActionsContainer, flag: str, help: str, default: Any = None, **more: Any) -> None:
    """Any option, or an argument where `flag` has no dashes; its help ends with the default, unless it names one itself."""
    if default is not None and "(default" not in help:
        told = " ".join(map(str, default)) if isinstance(default, list) else default
        help = f"{help} (default: {told:g})" if isinstance(told, float) else f"{help} (default: {told})"
    if isinstance(default, list) and "action" not in more:
        more = {"nargs": "+"} | more
    made.add_argument(flag, default=default, help=help, **more)


def add_confidence(made: argparse.ArgumentParser, help: str, default: float | None = 0.5) -> None:
    """`--min-confidence X`, for scripts whose findings have a confidence."""
    add_number(made, "--min-confidence", help, default)


def namespace_of(args: argparse.Namespace) -> str:
    """The namespace that is named by --namespace, as tags are written."""
    namespace = str(args.namespace).strip().rstrip(":").lower()
    if not namespace:
        raise UsageError("--namespace is empty: name one, such as series or person")
    return namespace


def add_dataset(made: argparse.ArgumentParser) -> None:
    """`--dataset FILE`, for scripts that read one."""
    which = "the dataset JSON to read (default: the newest in datasets/)"
    made.add_argument("--dataset", metavar="FILE", type=path, help=which)
    what = "look at N pictures only, spread over pages, series and time (default: all that are in the dataset)"
    add_whole(made, "--max-embeddings", what)


def add_memory(made: argparse.ArgumentParser) -> None:
    """`--memory X`, for scripts that weigh the tags of all pictures; see `memory_of`."""
    what = "GiB that weighing the tags may take beside the embeddings (default: half of what is free)"
    add_number(made, "--memory", what, low=0.1, high=100_000)


def memory_of(args: argparse.Namespace) -> int:
    """The bytes that `--memory` names."""
    return memory.free() // 2 if args.memory is None else int(args.memory * memory.GIB)


def add_cluster(made: argparse.ArgumentParser) -> None:
    """`--engine ray` and what it needs, for scripts that can be shared out over machines (docs/scale.md)."""
    what = "what shares the work out: this process, or the workers of a Ray cluster"
    add_option(made, "--engine", what, "local", choices=("local", "ray"))
    add_workers(made)


def add_workers(made: argparse.ArgumentParser) -> None:
    """Which Ray cluster `--engine ray` means, and how many of its workers."""
    where = "of the Ray cluster (default: one of this machine alone)"
    made.add_argument("--address", metavar="HOST:PORT", type=address, help=where)
    add_whole(made, "--workers", "of the Ray cluster that are used, a core each (default: all there are)")


def parsed(made: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of a script that has those of a cluster, which mean nothing without one: a usage error."""
    args = made.parse_args(argv)
    if args.engine != "ray" and (args.address or args.workers):
        made.error("--address and --workers are for --engine ray")
    return args


def add_library(made: argparse._ActionsContainer, default: str) -> None:
    """`--library hydrus | DIR`, for scripts that touch the library; `default` says in words what happens without it."""
    what = "where the pictures are: 'hydrus' (settings in config.py) or a folder of pictures with sidecar tags"
    made.add_argument("--library", metavar="hydrus|DIR", type=path, help=f"{what} (default: {default})")


def add_services(made: argparse.ArgumentParser, write: bool = True) -> None:
    """`--machine-tag-service NAME` and, with `write`, `--write-tag-service NAME`: see `LibrarySettings.of`."""
    machine = (
        "a Hydrus tag service that a machine fills, by name or key: its tags do not count as yours; may be given again"
    )
    default = " (default: config.py's MACHINE_TAG_SERVICES)"
    add_option(made, "--machine-tag-service", machine + default, [], metavar="NAME", action="append")
    if write:
        what = "the Hydrus tag service that tags are added to, by name or key"
        default = " (default: config.py's WRITE_TAG_SERVICE, else the first local one)"
        made.add_argument("--write-tag-service", metavar="NAME", help=what + default)


def data_folder(args: argparse.Namespace, create: bool = False, look: bool = False) -> DataFolder:
    """The shared folder that the options name. Only the first stage makes one (`create`); to the others a
    folder that is not there is a typing error, except with `look`, and one that may not be written is refused.
    """
    root = files.named(args.data_dir or os.environ.get("DATASET_DIR") or str(PROJECT), "--data-dir")
    if create:
        root.mkdir(parents=True, exist_ok=True)
    if not root.is_dir() and not look:
        raise MissingInput(f"no data folder {root}: make it, or name another with --data-dir or DATASET_DIR")
    if not look and not os.access(root, os.R_OK | os.X_OK):  # before the work, not after it
        raise files.NotAllowed(root)
    if not look and not os.access(root, os.W_OK):
        raise ToolError(f"{root} may not be written: grant the right to it, or name another with --data-dir")
    folder = DataFolder(root.resolve())
    folder.sweep()
    return folder


def bounded(kind: Callable[[str], Any], low: float, high: float = math.inf) -> Callable[[str], Any]:
    """An argparse type: an `int` or a `float`, from `low` to `high`, both allowed.

    >>> bounded(float, 0, 1)("0.5"), bounded(int, 1)("7")
    (0.5, 7)
    """

    def number(text: str) -> Any:
        value = kind(text)
        if not low <= value <= high:
            beyond = f"less than {low}" if high == math.inf else f"not between {low} and {high}"
            raise argparse.ArgumentTypeError(f"{text} is {beyond}")
        return value

    number.__name__ = "whole_number" if kind is int else "number"  # which argparse says of what is none
    return number


port = bounded(int, 0, 65535)  # 0 is any that is free


def address(text: str) -> str:
    """An argparse type: HOST:PORT, or a host or word alone.

    >>> address("10.0.0.7:6379"), address("auto")
    ('10.0.0.7:6379', 'auto')
    """
    number = text.rpartition(":")[2]
    if number.isdigit():
        port(number)
    return text


def path(text: str) -> str:
    """An argparse type: the path of a file or folder, its `~` resolved. An empty one (`"$DIR"` that is not set) is none."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty, and names nothing")
    try:
        return str(files.named(text, "")) if text.startswith("~") else text
    except UsageError:
        raise argparse.ArgumentTypeError(f"there is no such user: {text}") from None


def place(text: str) -> Path:
    """`path` as a `Path`."""
    return Path(path(text))


def progress(items: Iterable[T], total: int | None = None, what: str = "", unit: str = "file") -> tqdm[T]:
    """`items` with a progress bar on stderr; without a terminal (or TAGCHECK_PROGRESS=live) drawn every few seconds."""
    from tqdm import tqdm  # here, since a program that is to answer at once shows no progress

    quiet = not sys.stderr.isatty() and os.environ.get("TAGCHECK_PROGRESS") != "live"
    # A log may be kept in any code page, also where a detector writes UTF-8 and another process passes it on.
    often = {"mininterval": 5.0 if quiet else 0.2, "dynamic_ncols": not quiet, "ascii": True if quiet else None}
    return tqdm(items, total=total, desc=what, unit=unit, file=sys.stderr, **often)


@contextmanager
def shown_share(what: str) -> Iterator[Callable[[float], None]]:
    """A progress bar of 100 steps for as long as the block runs; what it yields is told the share of the work that is done, 0 to 1."""
    with progress((), total=100, what=what, unit="%") as bar:
        yield lambda done: bar.update(round(100 * done, 1) - bar.n)


class Shown(Protocol):
    """A message in the library's own program."""

    cancelled: bool

    def update(self, done: int, total: int, text: str) -> None:
        """Show how far a run is."""


def add_popup(made: argparse.ArgumentParser) -> None:
    """`--popup`, for scripts that may run for long."""
    add_switch(made, "--popup", "show progress in a message in Hydrus too, with a cancel button (default: no)")


@contextmanager
def popup(library: Any, wanted: bool, title: str) -> Iterator[Shown | None]:
    """The message that `--popup` asks for, or None without it. Raises `UsageError` where the library is no Hydrus."""
    if not wanted:
        yield None
        return
    if not hasattr(library, "popup"):
        raise UsageError("--popup is for Hydrus: a folder has no program of its own to show it")
    with library.popup(title) as shown:
        yield shown


def shown(items: Iterable[T], total: int, what: str, message: Shown | None) -> Iterator[T]:
    """`items` with a progress bar, and with the same in `message` where there is one. Raises `Cancelled` when it is cancelled there."""
    for number, item in enumerate(progress(items, total, what)):
        if message is not None:
            message.update(number, total, f"{what}: {number:,} of {total:,}")
            if message.cancelled:
                raise Cancelled()
        yield item


def say(message: str) -> None:
    """One line about what is going on, on stderr: results alone go to stdout."""
    print(message, file=sys.stderr, flush=True)
