"""Work in parts, shared out to the processes of a Ray cluster; a part whose worker or node is lost is done by another.

Ray is an optional package (`pip install "ray>=2.40"`) and is imported only when a cluster is asked for. What is done is
kept by the work itself (shards on a disk that all nodes see), not by Ray: a driver that was killed is started again and
goes on with what is left.
"""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tagcheck import children
from tagcheck.errors import MissingInput, ToolError

PROJECT = Path(__file__).resolve().parent.parent
ATTEMPTS = 4  # of one part: what ends so many workers ends every worker
Work = Callable[[Any, int], Any]  # (part, how often it was begun before) -> its result
# (what makes in a worker what is called for each part, the parts) -> the parts' results, in their order
Share = Callable[[Callable[[], Callable[[Any], Any]], Sequence[Any]], Iterator[Any]]


class WorkersLost(ToolError):
    """One part ended every worker that was given it."""

    exit_code = 1


def over_parts(
    make: Callable[[], Work], parts: Sequence[Any], address: str | None = None, workers: int | None = None
) -> Iterator[Any]:
    """The result of every part, in the order in which they are done.

    `make` is called once in every worker, so that it can load what all parts need; what it returns is called for each
    part. `address` of a running cluster, or None for one of this machine alone; `workers` at once (default: as many as
    the cluster has room for), each with one core. Raises `WorkersLost` for a part that ends each worker, and what
    the work itself raises.
    """
    with _connected(address) as ray:
        yield from (result for _, result in _done(ray, make, parts, _room(ray, workers, len(parts))))


def here(make: Callable[[], Callable[[Any], Any]], parts: Sequence[Any]) -> Iterator[Any]:
    """The results of the parts, done one after the other in this process."""
    return map(make(), parts)


@contextmanager
def shared(address: str | None = None, workers: int | None = None) -> Iterator[Share]:
    """As `here`, by the workers of a Ray cluster (`over_parts`), for several rounds of parts. A part is asked for when a worker is free
    for it, and sent to that worker alone.
    """
    with _connected(address) as ray:

        def share(make: Callable[[], Callable[[Any], Any]], parts: Sequence[Any]) -> Iterator[Any]:
            waiting: dict[int, Any] = {}
            done = _done(ray, partial(_whichever, make), parts, _room(ray, workers, len(parts)))
            for number in range(len(parts)):
                while number not in waiting:
                    waiting.__setitem__(*next(done))
                yield waiting.pop(number)

        yield share


def _whichever(make: Callable[[], Callable[[Any], Any]]) -> Work:
    work = make()
    return lambda part, begun: work(part)


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    ray = _ray()
    ray.init(
        address=address,
        include_dashboard=None if address else False,
        logging_level="ERROR",
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(PROJECT), "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}},
    )
    try:
        yield ray
    finally:
        ray.shutdown()


def _room(ray: Any, workers: int | None, parts: int) -> int:
    return min(workers or max(1, int(ray.cluster_resources().get("CPU", 1))), parts)


# (number of each part, its result), in the order in which they are done
def _done(ray: Any, make: Callable[[], Work], parts: Sequence[Any], workers: int) -> Iterator[tuple[int, Any]]:
    class Worker:
        """One process that does parts; not restarted by Ray, since we hand its part on ourselves."""

        def __init__(self, make: Callable[[], Work]) -> None:
            children.give_way()
            self.work = make()

        def ready(self) -> None:
            """Return once the worker is made."""

        def do(self, part: Any, begun: int) -> Any:
            return self.work(part, begun)

    remote_worker: Any = ray.remote(num_cpus=1, max_restarts=0)(Worker)
    kept = ray.put(make)  # once a node, and not once a worker
    left, begun = deque(range(len(parts))), Counter[int]()
    asked: dict[Any, tuple[Any, int | None]] = {}  # what is waited for: its worker, and its part

    def start() -> None:
        worker = remote_worker.remote(kept)
        asked[worker.ready.remote()] = worker, None

    for _ in range(workers):
        start()
    finished = 0
    while finished < len(parts):
        for reference in ray.wait(list(asked), num_returns=1)[0]:
            worker, part = asked.pop(reference)
            try:
                result = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, Exception) else error from None
            except ray.exceptions.RayActorError as error:
                if part is not None:
                    left.appendleft(part)
                elif not isinstance(error, ray.exceptions.ActorDiedError) or "creation task" in str(error):
                    last = str(error).strip().rpartition("\n")[2] or type(error).__name__
                    raise WorkersLost(f"a worker could not be made: {last[:300]}") from None
                start()
                continue
            if part is not None:
                finished += 1
                yield part, result
            if left:
                part = left.popleft()
                begun[part] += 1
                if begun[part] > ATTEMPTS:
                    raise WorkersLost(f"{ATTEMPTS} workers ended in the same part ({part + 1} of {len(parts)})")
                asked[worker.do.remote(parts[part], begun[part] - 1)] = worker, part


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    try:
        import ray
    except ImportError:
        raise MissingInput('--engine ray needs the package ray: pip install "ray>=2.40"') from None
    return ray
