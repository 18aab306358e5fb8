"""Reads tags, mentions and words out of what people write: the same way wherever it is needed.

Everything that finds posts or names by their text (indices, queries, trends) goes through here, so
that what is stored and what is asked for fold to the same letters. All of it is pure, linear in
the text, and safe on any string, lone surrogates included.
"""

import re
import unicodedata

__all__ = ["TAG_LENGTH_MAX", "case_folded", "folded", "hashtags", "mentions", "words"]

TAG_LENGTH_MAX = 200
"""A longer one is not a tag: a key that tables and indices hold has to have an end."""


def marks() -> str:
    """All combining marks, as ranges of a regular expression's character class.

    `\\w` has none of them, but vowels of Devanagari and Thai, Arabic points and decomposed accents
    are marks, and part of their words.
    """
    ranges: list[list[int]] = []
    for code in (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0)):
        if not unicodedata.category(chr(code)).startswith("M"):
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


JOINERS = "\u200c\u200d"
"""Invisible, and inside words of Persian and of Indian scripts."""

WORD = rf"\w[\w{marks()}{JOINERS}]*"

# A pattern that starts with its sign skips the rest of a text fastest: looking behind comes after.
_links = re.compile(r"://\S+").sub
_tag_runs = re.compile(rf"[#\uff03](?<![\w&].)({WORD}(?:[#\uff03]{WORD})*)").findall
# The same for texts of ASCII alone, which the marks of all scripts would only slow down.
_ascii_tag_runs = re.compile(r"#(?<![\w&].)(\w+(?:#\w+)*)", re.ASCII).findall
_split_tags = re.compile("[#\uff03]").split
_mentioned = re.compile(r"[@\uff20](?<![\w@\uff20].)([A-Za-z0-9_]{3,30})(?!\w)").findall
_words = re.compile(WORD).findall
_ignorable = re.compile("[\u00ad\u034f\u061c\u180b-\u180f\u200b-\u200f\u2060-\u2064\ufe00-\ufe0f]")
_accents = re.compile("[\u0300-\u036f]+")

LETTERS = str.maketrans(
    {
        "ø": "o",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "ħ": "h",
        "\u0131": "i",
        "æ": "ae",
        "œ": "oe",
        "þ": "th",
    }
)
"""Latin letters that do not decompose into a plain one and an accent."""


def case_folded(text: str) -> str:
    """The text without differences of case, width or composition; accents stay."""
    if text.isascii():
        return text.lower()
    composed = unicodedata.normalize("NFKC", text)
    visible = _ignorable.sub("", composed)
    # Folding may decompose ("İ"), and composing may bring back something to fold.
    return unicodedata.normalize("NFKC", visible.casefold()).casefold()


def folded(text: str) -> str:
    """`case_folded`, and without accents: "Élodie" and "elodie" become the same.

    Only the accents of Latin, Greek and Cyrillic go; the marks of other scripts are letters.
    """
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFD", case_folded(text))
    return unicodedata.normalize("NFC", _accents.sub("", apart).translate(LETTERS))


def hashtags(text: str) -> tuple[str, ...]:
    """The tags of a text, each once, case-folded and without their sign, in order.

    A tag is a run of letters, digits and underscores with at least one letter in it, after a `#`
    that does not follow a letter, a digit or `&`; `#one#two` are two. Links have none.
    """
    if "#" not in text and "\uff03" not in text:
        return ()
    found: dict[str, None] = {}
    tag_runs = _ascii_tag_runs if text.isascii() else _tag_runs
    for run in tag_runs(without_links(text)):
        if run.isascii() and run.isalnum():
            # One plain tag, as most are: what is not all digits has a letter.
            if not run.isdigit() and len(run) <= TAG_LENGTH_MAX:
                found[run.lower()] = None
            continue
        for tag in map(case_folded, _split_tags(run)):
            if is_tag(tag):
                found[tag] = None
    return tuple(found)


def is_tag(candidate: str) -> bool:
    return len(candidate) <= TAG_LENGTH_MAX and (
        candidate.isalpha() or any(map(str.isalpha, candidate))
    )


def mentions(text: str) -> tuple[str, ...]:
    """The user names that a text mentions, each once, in lower case and without `@`, in order."""
    if "@" not in text and "\uff20" not in text:
        return ()
    return tuple(dict.fromkeys(name.lower() for name in _mentioned(without_links(text))))


def without_links(text: str) -> str:
    """The text with each address cut off after its scheme."""
    return _links(" ", text) if "://" in text else text


def words(text: str) -> list[str]:
    """The words of a text, `folded`, in order, as often as they come.

    Runs of letters, digits and underscores, with their marks. Scripts without spaces give runs as
    long as they are written.
    """
    return _words(folded(text))
