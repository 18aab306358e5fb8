"""What people type is read as the language says, and whatever else they type is bounded."""

import time
from datetime import UTC, datetime
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.shared.text import case_folded
from infra.ports.search_reads import Query, Terms
from query_api.searching.search_query import LENGTH_MAX, TERMS_MAX, QueryInvalid, parse

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Hiking  BOOTS\thiking", Terms(words=("hiking", "boots"))),
        ('"Red  shoes" blue', Terms(words=("blue",), phrases=(("red", "shoes"),))),
        ("“red shoes”", Terms(phrases=(("red", "shoes"),))),
        ('"boots"', Terms(phrases=(("boots",),))),
        ('tea "and cake', Terms(words=("tea",), phrases=(("and", "cake"),))),
        ("wi-fi rock'n'roll", Terms(phrases=(("wi", "fi"), ("rock", "n", "roll")))),
        ("#Straße #café ＃東京", Terms(tags=("strasse", "café", "東京"))),  # noqa: RUF001
        ("#one#two #1", Terms(words=("1",), tags=("one", "two"))),
        ("@Ada_L @ab", Terms(words=("ab",), mentions=("ada_l",))),
        ("from:Ada FROM:@bob x", Terms(words=("x",), authors=("ada", "bob"))),
        ("Élodie 東京都", Terms(words=("élodie", "東京都"))),
        ("size:10 http://x.org/a", Terms(phrases=(("size", "10"), ("http", "x", "org", "a")))),
        ("a* b? (c) [d] /e/ f~2 g^9 \\h", Terms(tuple("abcdeh"), (("f", "2"), ("g", "9")))),
        ("tea *** - -- !", Terms(words=("tea",))),
        ("a OR b AND NOT c", Terms(words=("a", "or", "b", "and", "not", "c"))),
    ],
)
def test_words_phrases_tags_and_names_are_told_apart(text: str, wanted: Terms) -> None:
    assert parse(text) == Query(wanted)


def test_a_minus_before_anything_unwants_it() -> None:
    query = parse('tea -milk -"brown sugar" -#ad -@bob -from:eve')
    assert query.wanted == Terms(words=("tea",))
    assert query.unwanted == Terms(("milk",), (("brown", "sugar"),), ("ad",), ("bob",), ("eve",))


def test_times_narrow_each_other() -> None:
    query = parse("since:2025-01-01 since:2026-01-01 until:2026-02-01T02:00:00+02:00")
    assert (query.since, query.until) == (JANUARY, datetime(2026, 2, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "***",
        '""""',
        "-tea",
        "from:",
        "from:a",
        "from:a*",
        "since:",
        "since:yesterday",
        "since:2026-13-01",
        "since:2026-01-01T10:00:00",
        "until:9999-99-99",
        "tea -since:2026-01-01",
        "x" * (LENGTH_MAX + 1),
        " ".join(map(str, range(TERMS_MAX + 1))),
        '"' + " ".join(map(str, range(TERMS_MAX + 1))) + '"',
        "-".join(map(str, range(TERMS_MAX + 1))),
        "#t" * (TERMS_MAX + 1) + "".join(f"#t{n}" for n in range(TERMS_MAX + 1)),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(QueryInvalid):
        parse(text)


def test_ten_thousand_terms_and_nested_quotes_are_refused_at_once() -> None:
    began = time.process_time()
    for text in ("a " * 10_000, '"' * 100_000, "((((" * 50_000 + "a", '-"' * 10_000):
        with pytest.raises(QueryInvalid):
            parse(text)
    assert time.process_time() - began < 0.5


pieces = st.one_of(
    st.text(max_size=20),
    st.sampled_from(['"', "-", "#", "@", "from:", "since:", "until:", "*", "2026-01-01", "ada"]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(pieces, max_size=30).map("".join))
def test_any_text_is_read_or_refused_and_what_is_read_is_bounded(text: str) -> None:
    try:
        query = parse(text)
    except QueryInvalid:
        return
    for terms in (query.wanted, query.unwanted):
        found = [*terms.words, *chain(*terms.phrases), *terms.tags, *terms.mentions, *terms.authors]
        assert len(found) <= TERMS_MAX
        assert all(word and word == case_folded(word) for word in found)
        assert all(len(word) <= LENGTH_MAX * 18 for word in found)
    assert query.wanted or query.since or query.until


words = st.text("abcdefgh", min_size=1, max_size=8)


@settings(max_examples=100, deadline=None)
@given(st.lists(words, min_size=1, max_size=6), st.lists(words, min_size=2, max_size=3))
def test_a_query_that_is_written_down_is_read_again(plain: list[str], phrase: list[str]) -> None:
    query = parse(f'{" ".join(plain)} "{" ".join(phrase)}" -"{phrase[0]}"')
    assert query.wanted == Terms(tuple(dict.fromkeys(plain)), (tuple(phrase),))
    assert query.unwanted == Terms(phrases=((phrase[0],),))
