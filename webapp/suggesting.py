"""What is suggested for single pictures, as JSON, to a program on this machine that shows the token.

    GET /api/suggest?hash=HASH&hash=HASH     Authorization: Bearer TOKEN

The token stands in the data folder's store; `python suggest.py --token` prints it. It goes into a header, not into the
address, which programs keep in logs.
"""

import hmac

from flask import Blueprint, Response, abort, jsonify, request

from tagcheck.dataset import HASH
from tagcheck.review import by_picture
from webapp.state import refresh, review, settings

blueprint = Blueprint("suggesting", __name__, url_prefix="/api")


@blueprint.get("/suggest")
def suggest() -> Response:
    """The suggestions for each `hash` of the query."""
    given = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
    if not hmac.compare_digest(given.encode(), by_picture.token(review()).encode()):
        abort(403, "This needs the header 'Authorization: Bearer TOKEN'; python suggest.py --token prints the token.")
    hashes = [hash.lower() for hash in request.args.getlist("hash")]
    if not hashes or len(hashes) > by_picture.MOST or not all(map(HASH.fullmatch, hashes)):
        abort(400, f"One to {by_picture.MOST} hashes of 64 hex digits are expected as ?hash=...&hash=...")
    refresh(whole=True)
    return jsonify(by_picture.suggested(review(), hashes, settings().folder))
