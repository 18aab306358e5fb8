"""Reads what people type into a search field: a small language, and nothing else gets through.

    query     = { item }                     separated by spaces; all have to hold
    item      = [ "-" ] ( phrase | filter | tag | mention | word )
                                             "-": what is found must not have it
    phrase    = '"' { any but '"' } '"'      these words in this order; the last '"' may be missing
    filter    = "from:" [ "@" ] name         written by this account; of several, by any of them
              | "since:" moment              posted at or after it
              | "until:" moment              posted before it
    moment    = YYYY-MM-DD | RFC 3339        a day begins at midnight UTC
    tag       = "#" letters, digits or "_"   exactly this tag, whatever its case
    mention   = "@" name                     mentions this account
    word      = any other run without spaces and quotes

Neither case, width nor accents of words matter. A run that is several words, such as `wi-fi`, is a
phrase; a quoted word is taken as it is, and not for its stem. What holds no letter or digit is
passed over. Nothing here is a pattern: `*`, `?`, `/…/`, brackets
and backslashes mean nothing. It takes time in proportion to the text, whose length is bounded.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from domain.shared.text import WORD, case_folded, hashtags, mentions
from infra.ports.search_reads import Query, Terms

LENGTH_MAX = 500
TERMS_MAX = 20
QUOTES = dict.fromkeys(map(ord, "“”„‟«»\uff02"), '"')

_words = re.compile(WORD).findall
_items = re.compile(r'(-?)(?:"([^"]*)"?|([^\s"]+))').finditer
_filter = re.compile(r"(from|since|until):(.*)", re.IGNORECASE | re.DOTALL).fullmatch
_name = re.compile(r"[@\uff20]?([A-Za-z0-9_]{3,30})").fullmatch
_day = re.compile(r"\d{4}-\d\d-\d\d").fullmatch
_Moment = Annotated[datetime, Meta(tz=True)]


class QueryInvalid(Exception):
    """The text is not in the language; the message says why."""


class _Reading:
    """What has been read so far, of what is wanted or of what is not."""

    def __init__(self) -> None:
        # Dictionaries are sets that keep the order.
        self.words: dict[str, None] = {}
        self.phrases: dict[tuple[str, ...], None] = {}
        self.tags: dict[str, None] = {}
        self.mentions: dict[str, None] = {}
        self.authors: dict[str, None] = {}

    def add_run(self, text: str) -> None:
        found = _words(case_folded(text))
        if len(found) == 1:
            self.words[found[0]] = None
        elif found:
            self.phrases[tuple(found)] = None

    def add_phrase(self, text: str) -> None:
        if found := _words(case_folded(text)):
            self.phrases[tuple(found)] = None

    def terms(self) -> Terms:
        return Terms(
            tuple(self.words),
            tuple(self.phrases),
            tuple(self.tags),
            tuple(self.mentions),
            tuple(self.authors),
        )


class _Reader:
    def __init__(self) -> None:
        self._sides = {"": _Reading(), "-": _Reading()}
        self._moments: dict[str, datetime] = {}

    def read(self, text: str) -> Query:
        for sign, phrase, run in (item.groups() for item in _items(text.translate(QUOTES))):
            side = self._sides[sign]
            if run is None:
                side.add_phrase(phrase)
            elif (filtered := _filter(run)) is not None:
                self._filter(filtered[1].lower(), filtered[2], sign)
            else:
                self._run(run, side)
        return Query(
            self._sides[""].terms(),
            self._sides["-"].terms(),
            self._moments.get("since"),
            self._moments.get("until"),
        )

    def _run(self, run: str, side: _Reading) -> None:
        first = case_folded(run[0])
        if first == "#" and (tags := hashtags(run)):
            side.tags.update(dict.fromkeys(tags))
        elif first == "@" and (names := mentions(run)):
            side.mentions.update(dict.fromkeys(names))
        else:
            side.add_run(run)

    def _filter(self, name: str, value: str, sign: str) -> None:
        if name == "from":
            match = _name(value)
            if match is None:
                raise QueryInvalid("`from:` is followed by a user name, as in `from:ada`.")
            self._sides[sign].authors[match[1].lower()] = None
            return
        if sign:
            raise QueryInvalid(f"`{name}:` cannot be excluded; there are `since:` and `until:`.")
        # Of several, the narrowest holds: all of them have to.
        narrower: Callable[[datetime, datetime], datetime] = max if name == "since" else min
        moment = _moment(name, value)
        self._moments[name] = narrower(self._moments.get(name, moment), moment)


def _moment(name: str, value: str) -> datetime:
    text = f"{value}T00:00:00Z" if _day(value) else value
    try:
        return msgspec.convert(text, _Moment).astimezone(UTC)
    except (msgspec.ValidationError, OverflowError, ValueError):
        raise QueryInvalid(
            f"`{name}:` is followed by a day, as in `{name}:2026-01-31`, or an RFC 3339 moment."
        ) from None


def parse(text: str) -> Query:
    """What a text asks for. Raises `QueryInvalid` for what is too long, holds too many terms, a
    filter that is not understood, or nothing to look for."""
    if len(text) > LENGTH_MAX:
        raise QueryInvalid(f"A query has {LENGTH_MAX} characters at most.")
    query = _Reader().read(text)
    terms = count(query.wanted) + count(query.unwanted)
    if terms > TERMS_MAX:
        raise QueryInvalid(f"A query has {TERMS_MAX} words, tags and names at most.")
    if not (query.wanted or query.since or query.until):
        raise QueryInvalid(
            "There is nothing to look for, only to leave out."
            if query.unwanted
            else "There is nothing to look for: give a word, a #tag or an @name."
        )
    return query


def count(terms: Terms) -> int:
    return sum(
        [
            len(terms.words),
            sum(map(len, terms.phrases)),
            len(terms.tags),
            len(terms.mentions),
            len(terms.authors),
        ]
    )
