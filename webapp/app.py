"""Serve the review page: look at what the detectors found, decide, and apply what was accepted to the library.

    python webapp/app.py
    python webapp/app.py --data-dir ~/tags --library ~/pictures --port 5001

Reads   reports/ and datasets/ (the newest of each), and the library's pictures
Writes  review.sqlite3 (decisions, ledger of writes), cache/thumbnails/, and, once confirmed, tags in the library

Open http://localhost:5000/error-review. The page answers to this machine only, unless --host says otherwise.
"""

import argparse
import mimetypes
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
if str(PROJECT) not in sys.path:  # `python webapp/app.py` puts only webapp/ there
    sys.path.insert(0, str(PROJECT))

if __name__ == "__main__":  # before what takes seconds to import
    from tagcheck import interruption

    interruption.end_at_once()

from flask import Flask, make_response, redirect, render_template, request, session
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

import config
from tagcheck import detectors, files, script
from tagcheck.data_folder import DataFolder
from tagcheck.errors import LibraryError, ToolError, UsageError
from tagcheck.library import choose
from tagcheck.review import Review, start
from tagcheck.script import run
from webapp import (
    applying_views,
    confirming,
    deciding,
    keys,
    pictures,
    rules,
    running,
    security,
    sharing,
    state,
    views,
    words,
)
from webapp.answers import BEFORE, back, tell, to_script, told
from webapp.serving import LARGEST_BODY, Server
from webapp.state import Settings

# Windows reads these from its registry, where other programs may have put text/plain, which browsers refuse to run.
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
AGAIN = 2  # seconds after which a page that has nothing to show yet looks again
Answer = Response | tuple[str | dict[str, Any], int]


def create_app(settings: Settings) -> Flask:
    """The page as a WSGI application. Raises `BadFile` when review.sqlite3 is not one."""
    detectors.register(config.OWN_DETECTORS, script.PROJECT)
    for ending, kind in KINDS.items():
        mimetypes.add_type(kind, ending)
    app = Flask(__name__, template_folder="templates", static_folder="static")
    app.url_map.strict_slashes = False
    app.config.update(MAX_CONTENT_LENGTH=LARGEST_BODY, MAX_FORM_PARTS=200_000, MAX_FORM_MEMORY_SIZE=LARGEST_BODY)
    state.install(app, settings)
    start(settings.folder.review)
    with Review(settings.folder.review) as store:
        security.install(app, store, settings.host, str(settings.folder.root))
        applying_views.catch_up(store)
    words.install(app)
    app.extensions["tagcheck_messages"] = {}  # that wait to be said, by browser
    running.install(app)
    pictures.install(app, settings)
    for room in (views, deciding, applying_views, rules, sharing):
        app.register_blueprint(room.blueprint)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(ToolError, _tool_error)
    app.register_error_handler(state.StillReading, _still_reading)
    app.context_processor(
        lambda: {
            **_keys(settings.folder.root),
            "told": told,
            "before": BEFORE,
            "theme": session.get("theme", "system"),
            "hide_pictures": session.get("hide_pictures", False),
            "library_name": settings.library_name,
        }
    )
    app.template_filter("key_word")(keys.word)
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of Flask's own provider
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    return app


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = script.parser(__doc__)
    script.add_library(parser, "the one that the newest mapping was made from")
    script.add_services(parser)
    host = f"the address to serve on (default: {config.HOST}, this machine only)"
    parser.add_argument("--host", default=config.HOST, metavar="ADDRESS", help=host)
    script.add_option(parser, "--port", "the port to serve on", config.PORT, type=script.port, metavar="N")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    folder = script.data_folder(args)
    settings = settings_from(args, folder)
    app = create_app(settings)
    server = Server(app, args.host, args.port)
    recover(app.extensions["tagcheck"])
    if not security.is_loopback(args.host):
        anybody = "anybody who reaches it can read your pictures and change tags: there is no login"
        script.say(f"warning: served on {args.host}, {anybody}")
    reading = threading.Thread(target=read_reports, args=(app.extensions["tagcheck"],), name="first", daemon=True)
    try:
        reading.start()
        reading.join(state.FIRST)
        print(f"the page is at {address(args.host, server.server_port)}/error-review (Ctrl-C ends it)", flush=True)
        server.serve_forever()
    except KeyboardInterrupt:  # the way to end it
        script.say(end_in_words(app.extensions["tagcheck_jobs"].running()))
    finally:
        with suppress(KeyboardInterrupt):  # who presses it twice does not wait for answers that are under way
            server.server_close()
    return 0


def end_in_words(job: running.Job | None) -> str:
    """What the end of the page leaves unfinished, if anything."""
    if job is None:
        return "ended"
    left = "the next start finishes it" if job.lead else "run the detectors again"
    return f"ended in the middle of {job.words[0].lower()}{job.words[1:]}: {left}"


def read_reports(shared: state.Shared) -> None:
    """Read what is newer than the store, and say what cannot be read; the page answers meanwhile."""
    reader = shared.reader()
    reader.join(state.FIRST)
    if reader.is_alive():
        script.say("reading the newest reports; the page shows them as soon as they are read")
    reader.join()
    for problem in (*reader.problems.values(), *filter(None, [reader.trouble])):
        script.say(f"warning: {problem}")


def settings_from(args: argparse.Namespace, folder: DataFolder) -> Settings:
    """The page's settings from the options and config.py."""
    library = choose.LibrarySettings.of(config, args)
    name = choose.library_name(args.library, folder, library)
    if name != choose.HYDRUS:
        files.named(name, "--library")  # a typing error is reported at once, a library that is away later
    opened = partial(choose.open_library, name, folder, library)
    namespaces = (config.INVISIBLE_NAMESPACES, library.write_service, config.SERIES_NAMESPACE)
    return Settings(folder, opened, name, args.host, *namespaces)


def recover(shared: state.Shared) -> None:
    """Finish what a crash left open in the library, and say so; where the library is away, only say that."""
    try:
        shared.library().describe()  # a client that is away says so soon
        results = applying_views.recovered(shared, shared.writer())
    except ToolError as error:
        opened = "" if isinstance(error, LibraryError) else "the library cannot be opened: "
        script.say(f"warning: {opened}{error}")
        return
    for result in results:
        script.say(f"left open by an earlier run: {applying_views.in_words('recover', result)}")
    confirming.begin(shared)


def address(host: str, port: int) -> str:
    """The address to type into a browser."""
    if host in ("127.0.0.1", "0.0.0.0", "::1", "::", "localhost"):  # nosec B104
        return f"http://localhost:{port}"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _keys(folder: Path) -> dict[str, Any]:
    """The owner's keys for the templates: for the script, on the buttons, beside the tags of a card."""
    actions, _ = keys.load(folder)
    return {
        "keys": [{"name": one.name, "keys": one.keys, "places": one.places} for one in actions],
        "key_of": {one.name: keys.shown(one) for one in actions},
        "tick_keys": [keys.word(key) for one in actions if one.name == keys.TICKS for key in one.keys],
    }


def _http_error(error: HTTPException) -> Answer:
    if error.code is not None and error.code < 400:
        return Response.force_type(error.get_response())
    return _message(error.code or 500, error.description or error.name)


def _still_reading(_: state.StillReading) -> Response:
    """The page is there before its first findings are, says so, and looks again by itself."""
    newest = (state.settings().folder.newest(one.report) for one in detectors.DETECTORS)
    size = words.size(sum(path.stat().st_size for path in newest if path is not None and path.exists()))
    answer = make_response(render_template("reading.html", size=size))
    answer.headers["Refresh"] = str(AGAIN)
    return answer


def _tool_error(error: ToolError) -> Answer:
    """The library or a file stood in the way: the page that its owner was on says so in the error's own words."""
    if request.method == "POST" and not to_script():
        tell(f"Nothing was done: {error}")
        return redirect(back(), 303)
    codes = ((LibraryError, 503), (UsageError, 400), (ToolError, 500))
    return _message(next(code for kind, code in codes if isinstance(error, kind)), str(error))


def _message(code: int, text: str) -> tuple[str | dict[str, Any], int]:
    if to_script():
        return {"message": text, "ok": False}, code
    return render_template("message.html", text=text, code=code, back=back()), code


if __name__ == "__main__":
    run(main)
