"""Sidecars of every form that is read, drawn by hypothesis: (name of the form, bytes)."""

from __future__ import annotations

import json

from hypothesis import strategies as st

WORDS = [
    "1girl",
    "long_hair",
    "Long Hair",
    "solo",
    "series:x",
    "Series: Re Zero",
    "^_^",
    ";)",
    "saber_(fate)",
    "été",
    "e\u0301t\u00e9",
]
WORDS += [
    "Straße",
    "blue\u200beyes",
    "hat",
    "red coat",
    "猫耳",
    "o_o",
    "character:hatsune_miku",
    "x & y",
    "a'b",
    "Kimi no Na wa.",
]
TAGS = st.lists(st.sampled_from(WORDS), min_size=0, max_size=7)
CODECS = st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16"])


def encoded(text: str, draw) -> bytes:
    """As UTF-8, with a byte-order mark or without, or as UTF-16."""
    return text.encode(draw(CODECS))


def _escaped(tag: str) -> str:
    return tag.replace("(", "\\(").replace(")", "\\)")


@st.composite
def text(draw) -> tuple[str, bytes]:
    """Commas, lines, captions and prompts, with weights and escapes."""
    tags = draw(TAGS)
    escape = draw(st.sampled_from([str, _escaped, lambda tag: _escaped(tag).replace("\\", "\\\\")]))
    weigh = draw(st.sampled_from(["{}", "{}", "({}:1.2)", "(({}))", "{{{{{}}}}}"]))
    tags = [weigh.format(escape(tag)) if draw(st.booleans()) and len(tag) > 3 else escape(tag) for tag in tags]
    kind = draw(st.sampled_from(["commas", "lines", "captions", "prompt", "grouped"]))
    if kind == "lines":
        joint = draw(st.sampled_from(["\n", "\r\n"]))
        body = joint.join(tags) + draw(st.sampled_from(["", joint]))
    else:
        joint = draw(st.sampled_from([", ", ",", " , "]))
        body = joint.join(tags)
        if kind == "captions":
            body += "\n" + joint.join(draw(TAGS))
        elif kind == "grouped" and len(tags) > 2:
            body = f"{tags[0]}, ({tags[1]}, {tags[2]}:1.3)" + "".join(", " + tag for tag in tags[3:])
        elif kind == "prompt":
            body += (
                draw(
                    st.sampled_from(
                        ["", ", <lora:style:0.8>", ", [cat:red dog, big:0.5]", ", [x y|z], {a|b c}", " AND hat :0.8"]
                    )
                )
                + "\nNegative prompt: bad hands, solo\nSteps: 20, Sampler: Euler a, Seed: 1"
            )
        body += draw(st.sampled_from(["", "\n", ",", ",\n"])) if kind in ("commas", "grouped") else ""
    return draw(st.sampled_from([".txt", ".caption"])), encoded(body, draw)


@st.composite
def document(draw) -> tuple[str, bytes]:
    """Hydrus' and gallery-dl's JSON, in several layouts."""
    tags = draw(TAGS)
    booru = [tag.replace(" ", "_") for tag in tags]
    made = draw(
        st.sampled_from(
            [
                tags,
                {"tags": tags},
                {"id": 1, "my files": {"tags": {"my tags": tags}}, "score": 1.50},
                {
                    "tags": booru,
                    "tag_string": " ".join(booru),
                    "tag_string_general": " ".join(booru[:2]),
                    "url": "https://x/?a=1",
                },
                {"category": "gelbooru", "tags": " ".join(booru), "rating": "s\u2028"},
                {"tags": {"general": tags, "artist": ["somebody"]}},
                {"tags": {tag: round(0.97 - 0.13 * place, 2) for place, tag in enumerate(tags)}, "score": 1.50},
                {"id": 7, "tags": {"general": dict.fromkeys(tags, 1), "artist": {"somebody": 0.50}}},
                {"category": "pixiv", "tags": [{"name": tag, "translated_name": None} for tag in tags], "title": "x"},
            ]
        )
    )
    indent = draw(st.sampled_from([None, 2, 4, "\t"]))
    separators = draw(st.sampled_from([None, (",", ":")]))
    return ".json", (
        encoded(json.dumps(made, indent=indent, separators=separators, ensure_ascii=draw(st.booleans())), draw)
    )


@st.composite
def keywords(draw) -> tuple[str, bytes]:
    """XMP with dc:subject, and digiKam's and Lightroom's lists."""
    tags = [tag.replace("&", "&amp;") for tag in draw(TAGS)]
    line = draw(st.sampled_from(["\n", ""]))

    def listed(name: str, kind: str, items: list[str]) -> str:
        if not items and draw(st.booleans()):
            return f"<{name}><rdf:{kind}/></{name}>"
        return (
            f"<{name}>{line} <rdf:{kind}>{line}"
            + "".join(f"  <rdf:li>{item}</rdf:li>{line}" for item in items)
            + f" </rdf:{kind}>{line}</{name}>"
        )

    body = listed("dc:subject", "Bag", tags)
    if draw(st.booleans()):
        body = listed("digiKam:TagsList", "Seq", [f"People/{tag}" for tag in tags]) + body
    if draw(st.booleans()):
        body += listed("lr:hierarchicalSubject", "Bag", [f"a|{tag}" for tag in tags])
    whole = (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="a>b"'
        ' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:digiKam="http://www.digikam.org/ns/1.0/"'
        f' xmlns:lr="http://ns.adobe.com/lightroom/1.0/">{body}</rdf:Description></rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'
    )
    return ".xmp", encoded(whole, draw)


@st.composite
def record(draw) -> tuple[str, bytes]:
    """A record of metadata.jsonl, without its file_name."""
    tags = draw(TAGS)
    made = draw(
        st.sampled_from([{"text": ", ".join(tags)}, {"tags": tags, "score": 0.10}, {"caption_tags": ", ".join(tags)}])
    )
    return "record", json.dumps(made, ensure_ascii=draw(st.booleans())).encode()


ANY = st.one_of(text(), text(), document(), keywords(), record())
