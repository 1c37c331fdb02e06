"""The server of the page: waitress, with limits on connections, on the time that one may take, and on what it may send."""

import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import create_server

from tagcheck.errors import ToolError, UsageError

THREADS = 12
CONNECTIONS = 200  # at once; a further one takes the place of the one that was silent for longest
IDLE_SECONDS = 15  # after which a connection on which nothing is asked is closed
REQUEST_SECONDS = 60  # that sending one request may take
LARGEST_BODY = 16 * 2**20
LARGEST_HEADER = 64 * 2**10


class Channel(HTTPChannel):
    """A connection. One whose request has not come whole in time is closed, however little it sends now and then."""

    begun: float | None = None

    def received(self, data: bytes) -> bool:
        if self.begun is None:
            self.begun = time.time()
        answer: bool = super().received(data)
        if self.request is None:
            self.begun = None
        return answer

    def overdue(self, now: float) -> bool:
        """Whether it asks nothing, or takes too long to ask."""
        slow = self.begun is not None and now - self.begun > REQUEST_SECONDS
        return slow or (not self.requests and now - self.last_activity > IDLE_SECONDS)


class Server:
    """The page on an address. Raises `ToolError` when that is taken, or none of this machine's."""

    def __init__(self, app: Callable[..., Any], host: str, port: int) -> None:
        logging.getLogger("waitress").setLevel(logging.CRITICAL)
        self._map: dict[int, Any] = {}
        self._ended = False
        self._most = _most_connections()
        made = create_server(
            app,
            map=self._map,
            sockets=[_bound(host, port)],
            threads=THREADS,
            connection_limit=1 << 20,  # `_make_room` holds the limit
            channel_timeout=IDLE_SECONDS,
            cleanup_interval=5,
            max_request_body_size=LARGEST_BODY,
            max_request_header_size=LARGEST_HEADER,
            asyncore_use_poll=True,  # select knows no descriptor above 1,023
            clear_untrusted_proxy_headers=True,
            ident=None,
        )
        self._server = cast(Any, made)  # its methods are replaced here
        self._server.channel_class = Channel
        self._server.maintenance = self._maintenance
        self._server.accept = self._accept
        self.server_port: int = self._server.socket.getsockname()[1]

    def serve_forever(self) -> None:
        """Answer until `shutdown`, or until an interruption."""
        while not self._ended:
            wasyncore.loop(timeout=0.5, map=self._map, use_poll=True, count=1)

    def shutdown(self) -> None:
        """Let `serve_forever` end, from any thread."""
        self._ended = True
        self._server.pull_trigger()

    def server_close(self) -> None:
        """Let what is being answered end, and close every connection."""
        self._ended = True
        self._server.task_dispatcher.shutdown(timeout=5)
        for one in list(self._map.values()):
            one.close()

    def _maintenance(self, now: float) -> None:
        for channel in self._server.active_channels.values():
            if channel.overdue(now):
                channel.will_close = True

    def _accept(self) -> Any:
        """The next connection. Where there are too many, the one that was silent for longest makes room."""
        try:
            accepted = wasyncore.dispatcher.accept(self._server)
        except OSError:
            time.sleep(0.1)  # no descriptor is left: asking again at once would only keep the machine busy
            raise
        open_now = self._server.active_channels
        if len(open_now) >= self._most:
            waiting = [one for one in open_now.values() if not one.requests and not one.total_outbufs_len]
            if waiting:
                min(waiting, key=lambda one: one.last_activity).handle_close()
        return accepted


def _most_connections() -> int:
    """`CONNECTIONS`, or fewer where a process may open few files."""
    if os.name != "posix":
        return CONNECTIONS
    import resource

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return CONNECTIONS if files == resource.RLIM_INFINITY else max(8, min(CONNECTIONS, files // 2 - 32))


def _answers(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((host, port), timeout=0.5):
        return True
    return False


def _bound(host: str, port: int) -> socket.socket:
    """A socket on the address. Raises `ToolError` when it is taken, or none of this machine's."""
    if not 0 <= port <= 65535:
        raise UsageError(f"cannot serve on port {port}: ports are 0 to 65535, choose another --port")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
        try:
            # With the latter Windows lets several programs have one port, and tells none of them.
            alone = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
            bound.setsockopt(socket.SOL_SOCKET, alone, 1)
            bound.bind(address)
            if address[0] == "127.0.0.1" and port and _answers("::1", port):
                raise OSError(f"another program answers on [::1]:{port}, which localhost means too")
        except OSError:
            bound.close()
            raise
        return bound
    except OSError as error:
        cannot = f"cannot serve on {host}:{port} ({error.strerror or error})"
        raise ToolError(f"{cannot}: end the other program or choose another --port") from None
