"""The owner's keys: what a key is called, which map is refused, and that the page, its script and its buttons follow."""

from __future__ import annotations

import html
import json
import re

import pytest
from review_data import missing, page_on, save_mistagged

from webapp import keys
from webapp.keys import ACTIONS, Refused


@pytest.fixture
def page(folder):
    save_mistagged(folder, missing("a" * 64, "series:elves", "night"))
    client = page_on(folder).test_client()
    token = re.search(r'name="csrf" value="([0-9a-f]+)"', client.get("/error-review/help").text)[1]

    def change(**fields: str) -> str:
        answer = client.post("/error-review/help", data={"csrf": token, "do": "save", **fields}, follow_redirects=True)
        return html.unescape(answer.text)

    client.change = change
    return client


def keys_of(text: str) -> dict[str, list[str]]:
    """What a page hands to its script."""
    table = json.loads(re.search(r'id="keys">(.*?)</script>', text, re.S)[1])
    return {one["name"]: one["keys"] for one in table}


def test_the_table_as_it_comes_gives_no_key_two_meanings():
    assert keys.changed({}) == ACTIONS


@pytest.mark.parametrize("action", ACTIONS, ids=lambda one: one.name)
def test_every_key_is_read_as_it_is_shown(action):
    assert tuple(map(keys.parse, " ".join(map(keys.word, action.keys)).split())) == action.keys


@pytest.mark.parametrize(
    "text", ["ab", "Alt+x", "Shift+x", "Ctrl+", "Ctrl+W", "Ctrl+Shift+T", "Tab", "F5", "Meta+a", "Ctrl+Ctrl+a"]
)
def test_what_is_no_key_or_belongs_to_the_browser_is_refused(text):
    with pytest.raises(Refused):
        keys.parse(text)


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({"flag": ["a"]}, "accept what is ticked.* and .*flag"),
        ({"both": ["u"]}, "undo .* and .*copy tags both ways"),
        ({"select_all": ["x"]}, "X would mean two things on the grid"),
        ({"tick": list("1234567") + list("abc")}, "A would mean two things on the card"),
        ({"tick": [*list("123456789"), "m"]}, "nine at the most"),
        ({"dance": ["d"]}, "no action 'dance'"),
    ],
)
def test_a_map_with_two_meanings_for_a_key_at_one_place_is_refused(own, says):
    with pytest.raises(Refused, match=says):
        keys.changed(own)


def test_a_pair_may_use_a_key_of_every_card_and_wins_there():
    assert keys.changed({"left": ["a"]})


def test_changed_keys_reach_the_script_the_buttons_and_the_table(page, folder):
    text = page.change(accept="q F8", skip="", tick="m n o")
    assert "N would mean two things" in text and 'value="m n o"' in text and not (folder.root / keys.FILE).exists()
    text = page.change(accept="q F8", skip="", tick="7 8 9")
    assert "These keys are kept." in text and "<kbd>F8</kbd>" in text
    card = page.get("/error-review/card", follow_redirects=True).text
    assert keys_of(card)["accept"] == ["q", "F8"] and keys_of(card)["skip"] == []
    assert keys_of(card)["undo"] == list(ACTIONS[8].keys)
    buttons = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", card))
    assert "Accept Q" in buttons and "Skip S" not in buttons and "7 add" in buttons
    assert json.loads((folder.root / keys.FILE).read_text()) == {
        "accept": ["Q", "F8"],
        "skip": [],
        "tick": ["7", "8", "9"],
    }
    page.change(do="restore")
    assert keys_of(page.get("/error-review").text) == {one.name: list(one.keys) for one in ACTIONS}
    assert not (folder.root / keys.FILE).exists()


@pytest.mark.parametrize("text", ["{", '["a"]', '{"accept": "a"}', '{"accept": ["x"]}', '{"accept": ["Alt+F4"]}'])
def test_a_file_of_keys_that_cannot_be_used_is_named_and_changes_nothing(page, folder, text):
    (folder.root / keys.FILE).write_text(text)
    help = html.unescape(page.get("/error-review/help").text)
    assert f"{folder.root / keys.FILE} is not used" in help and keys_of(help)["accept"] == ["a", "y", "F7"]
