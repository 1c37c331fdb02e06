"""Pictures of every shape in a real browser: thin, huge, transparent, animated, moving; and a pair looked at closely."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser_site import Site, browser, tabs, window
from PIL import Image, ImageDraw
from review_data import missing, pair, save_mistagged, save_pairs, save_series

from tagcheck import data_folder
from tagcheck.data_folder import DATASET, DataFolder
from tagcheck.review import queries
from tagcheck.review.queries import Filter, Finding
from tagcheck.review.report_import import sync
from tagcheck.review.store import Review
from webapp import pictures


def drawing(width: int, height: int, mode: str = "RGB", mark: int = 0) -> Image.Image:
    """A picture with something in it: a slope of colours, and a mark that tells frames and copies apart."""
    across = np.linspace(0, 255, width, dtype=np.uint8)[None, :].repeat(height, 0)
    down = np.linspace(0, 255, height, dtype=np.uint8)[:, None].repeat(width, 1)
    picture = Image.fromarray(np.dstack([across, down, 255 - across]))
    ImageDraw.Draw(picture).rectangle((mark * 10, 10, mark * 10 + 30, 40), fill="white")
    return picture.convert(mode)


def draw_all(root: Path) -> dict[str, str]:
    """One file of each shape; name -> hash."""
    root.mkdir()
    drawing(300, 200).save(root / "plain.png")
    drawing(3000, 3).save(root / "thin.png")
    drawing(2, 2500).save(root / "tall.png")
    drawing(4200, 1000).save(root / "huge.jpg", quality=60)  # more pixels than are sent as they are (`shapes`)
    see_through = drawing(260, 260, "RGBA")
    see_through.putalpha(Image.radial_gradient("L").resize((260, 260)))
    see_through.save(root / "see through.png")
    spotted = Image.new("P", (200, 150), 3)
    spotted.putpalette([200, 40, 90] * 256)
    ImageDraw.Draw(spotted).rectangle((50, 30, 150, 120), fill=5)
    spotted.save(root / "palette.png", transparency=3)
    drawing(240, 160, "CMYK").save(root / "cmyk.jpg")
    Image.fromarray((np.arange(120 * 90, dtype=np.uint32) * 6).astype(np.uint16).reshape(90, 120)).save(
        root / "deep.png"
    )
    drawing(320, 240).save(root / "scan.tif")
    frames = [drawing(180, 120, mark=mark) for mark in range(4)]
    for name in ("moving.gif", "moving.webp", "moving.png"):
        frames[0].save(root / name, save_all=True, append_images=frames[1:], duration=80, loop=0)
    turned = drawing(300, 200)
    turned.save(root / "turned.jpg", exif=orientation(6))
    (root / "no picture.jpg").write_bytes(b"this is not a picture")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(root.iterdir())}


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def a_video(browser) -> bytes:
    """A WebM of a moving square, recorded by the browser itself."""
    page = browser.new_page()
    page.evaluate("""() => {
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [160, 120];
        const pen = canvas.getContext("2d");
        let turn = 0;
        const draw = () => {
            pen.fillStyle = "navy";
            pen.fillRect(0, 0, 160, 120);
            pen.fillStyle = "gold";
            pen.fillRect(turn++ % 130, 40, 30, 30);
        };
        draw();
        const timer = setInterval(draw, 40);
        const recorder = new MediaRecorder(canvas.captureStream(25), { mimeType: "video/webm" });
        const parts = [];
        recorder.ondataavailable = (event) => parts.push(event.data);
        recorder.onstop = async () => {
            clearInterval(timer);
            const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
            window.made = btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ""));
        };
        recorder.start();
        setTimeout(() => recorder.stop(), 700);
    }""")
    made = page.wait_for_function("() => window.made", timeout=20_000).json_value()
    page.close()
    return base64.b64decode(made)


@pytest.fixture(scope="module")
def shapes(browser, tmp_path_factory) -> Iterator[Site]:
    """A library of every shape of picture, each with a finding; and a pair of one picture and its brighter, smaller copy."""
    place = tmp_path_factory.mktemp("shapes")
    folder, root = DataFolder(place / "data"), place / "library"
    folder.root.mkdir()
    names = draw_all(root)
    video = a_video(browser)
    (root / "video.webm").write_bytes(video)
    names["video.webm"] = hashlib.sha256(video).hexdigest()
    copy = drawing(300, 200).resize((150, 100)).point(lambda value: min(255, value + 20))
    copy.save(root / "copy.png")
    names["copy.png"] = hashlib.sha256((root / "copy.png").read_bytes()).hexdigest()
    for path in root.iterdir():
        path.with_name(path.name + ".txt").write_text("drawn\n")
    records = [
        {"hash": hash, "existing_all_tags": ["drawn"], "mime": "video/webm" if name == "video.webm" else None}
        for name, hash in names.items()
    ]
    data_folder.save(folder, DATASET, {"summary": {}, "results": records})
    near = list(names.values())[:4]
    save_mistagged(
        folder, *[missing(hash, "series:elves", near_with=near, near_without=near[:2]) for hash in names.values()]
    )
    save_pairs(folder, pair(names["plain.png"], names["copy.png"], 0.99, ("bright",)))
    save_series(folder)
    made = Site(folder, root, [])
    made.names = names
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pictures, "LARGEST_PIXELS", 4_000_000)
        yield made
    made.stop()


def an_early_one(site: Site) -> Finding:
    """A finding near the start of the list, about a file that is a picture."""
    odd = {site.names[name] for name in ("video.webm", "no picture.jpg")}
    with Review(site.folder.review) as store:
        sync(store, site.folder)
        found = queries.page(store, Filter(issues=("missing_tags",)), limit=3)
    return next(one for one in found if one.hash not in odd)


DRAWN = """() => [...document.querySelectorAll("main img")].map((one) => one.complete && one.naturalWidth > 0)"""
LOADED = "() => [...document.querySelectorAll('main img')].every((one) => one.complete)"


def look(tab, site: Site, name: str) -> dict:
    """The card of one picture, when all on it is drawn: what its large picture is like."""
    tab.goto(site.address(f"/error-review/card?type=missing_tags&hash={site.names[name]}"))
    tab.wait_for_function(LOADED)
    assert all(tab.evaluate(DRAWN)), name
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    return tab.evaluate("""() => {
        const picture = document.querySelector("img.full"), frame = document.querySelector(".frame");
        const [box, around] = [picture.getBoundingClientRect(), frame.getBoundingClientRect()];
        return {
            width: picture.naturalWidth, height: picture.naturalHeight, fit: getComputedStyle(picture).objectFit,
            inside: box.width <= around.width + 1 && box.height <= around.height + 1,
            through: frame.classList.contains("see-through"),
        };
    }""")


def test_pictures_of_every_shape_are_drawn_whole(window, shapes):
    """None is cropped, stretched or wider than the window, on a card, in the list and in the grid; the console stays silent."""
    tab = window()
    seen = {name: look(tab, shapes, name) for name in shapes.names if name != "video.webm"}
    tab.set_viewport_size({"width": 390, "height": 844})
    narrow = {name: look(tab, shapes, name) for name in ("thin.png", "tall.png", "see through.png", "moving.gif")}
    assert all(one["fit"] == "contain" and one["inside"] for one in [*seen.values(), *narrow.values()])
    shown = {name: (one["width"], one["height"]) for name, one in seen.items()}
    assert shown["thin.png"] == (3000, 3) and shown["tall.png"] == (2, 2500) and shown["turned.jpg"] == (200, 300)
    assert max(shown["huge.jpg"]) == 4096 and shown["scan.tif"] == (320, 240)
    assert {name for name, one in seen.items() if one["through"]} == {"see through.png", "palette.png"}
    for view in ("findings", "findings?view=grid"):
        tab.goto(shapes.address(f"/error-review/{view}"))
        for picture in tab.locator("main img").all():
            picture.scroll_into_view_if_needed()  # those far down are drawn when they come into sight
        tab.wait_for_function(LOADED)
        assert all(tab.evaluate(DRAWN)) and tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_small_picture_stands_there_until_the_file_comes_and_the_next_ones_are_fetched_ahead(window, shapes):
    tab = window()
    waiting, asked = [], set()
    tab.on("request", lambda request: asked.add(request.url))
    one = an_early_one(shapes)
    tab.route(f"**/pictures/{one.hash}/full", lambda route: waiting.append(route))  # held back
    tab.goto(shapes.address(f"/error-review/card?type=missing_tags&at={one.id}"), wait_until="commit")
    tab.wait_for_function("() => document.querySelector('img.small-first')?.naturalWidth > 0")
    assert not tab.evaluate("document.querySelector('img.full').naturalWidth")
    tab.wait_for_function("() => typeof page !== 'undefined' && page.ahead.length >= 4")
    ahead = tab.evaluate("page.ahead.flatMap((card) => card.pictures)")
    for route in waiting:
        route.continue_()
    tab.wait_for_function(
        "() => !document.querySelector('img.small-first') && document.querySelector('img.full').naturalWidth"
    )
    tab.wait_for_load_state("networkidle")
    assert len(ahead) >= 8 and {shapes.address(address) for address in ahead} <= asked


def test_animations_move_and_videos_play(window, shapes):
    tab = window()
    for name in ("moving.gif", "moving.webp", "moving.png"):
        look(tab, shapes, name)
        frame = tab.locator(".frame")
        first = frame.screenshot()
        assert any(tab.wait_for_timeout(60) or frame.screenshot() != first for _ in range(20)), name
    tab.goto(shapes.address(f"/error-review/card?type=missing_tags&hash={shapes.names['video.webm']}"))
    tab.wait_for_function("() => document.querySelector('video').readyState >= 2")
    video = "document.querySelector('video')"
    assert tab.evaluate(f"[{video}.videoWidth, {video}.videoHeight, {video}.muted]") == [160, 120, True]
    tab.evaluate(f"() => {{ {video}.play().catch(() => null); }}")
    tab.wait_for_function(f"() => {video}.currentTime > 0")
    tab.keyboard.press("a")  # the page's keys hold beside a video
    tab.wait_for_selector("text=nothing is left here")
    assert shapes.queue("accepted") == 1


def test_the_neighbours_stand_beside_the_suggestion_and_lead_to_their_pictures(window, shapes):
    tab = window()
    look(tab, shapes, "plain.png")
    with_it, without = tab.locator(".neighbours").all()
    assert "Similar pictures with this tag" in with_it.inner_text()
    assert "Similar pictures without it" in without.inner_text()
    assert with_it.locator("a").count() == 4 and without.locator("a").count() == 2
    assert with_it.locator("a").first.get_attribute("href").endswith("/full")


def test_both_pictures_of_a_pair_zoom_and_move_as_one(window, shapes):
    """By wheel, by dragging, by keys; the same part of both is seen, whatever their sizes; flicker and difference show what they say."""
    tab = window()
    tab.goto(shapes.address("/error-review/card?type=pairs"))
    tab.wait_for_load_state("networkidle")

    def transforms() -> list[str]:
        return [picture.evaluate("(one) => one.style.transform") for picture in tab.locator("img.full").all()]

    left, right = (frame.bounding_box() for frame in tab.locator(".frame").all())
    assert (left["width"], left["height"]) == (right["width"], right["height"])
    tab.mouse.move(right["x"] + right["width"] * 0.75, right["y"] + right["height"] * 0.25)
    for _ in range(4):
        tab.mouse.wheel(0, -200)
    zoomed = transforms()
    assert zoomed[0] == zoomed[1] and "scale(2.07" in zoomed[0]
    tab.mouse.down()
    tab.mouse.move(right["x"] + right["width"] * 0.55, right["y"] + right["height"] * 0.45, steps=5)
    tab.mouse.up()
    dragged = transforms()
    assert dragged[0] == dragged[1] != zoomed[0]
    tab.keyboard.press("ArrowRight")
    moved = transforms()
    assert moved[0] == moved[1] != dragged[0]
    tab.keyboard.press("0")
    assert transforms() == ["", ""]
    tab.keyboard.press("v")
    seen = []
    for _ in range(8):
        seen.append(
            tuple(
                tab.evaluate("[...document.querySelectorAll('.shown')].map((one) => one.classList.contains('behind'))")
            )
        )
        tab.wait_for_timeout(200)
    assert set(seen) == {(True, False), (False, True)}  # one at a time, in turn
    tab.keyboard.press("v")
    tab.keyboard.press("d")
    shot = Image.open(io.BytesIO(tab.locator(".stage").screenshot())).convert("L")
    assert np.asarray(shot)[20:-60].mean() < 40  # nearly the same: nearly black
    tab.keyboard.press("d")
    assert tab.locator(".stage").get_attribute("data-mode") == "side"
