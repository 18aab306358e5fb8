"""Tags, mentions and words are read out of any text in the same way."""

# ruff: noqa: RUF001  Texts that look alike are what is tested here.

import random
import time

import pytest

from domain.shared.text import TAG_LENGTH_MAX, case_folded, folded, hashtags, mentions, words


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("no tag at all", ()),
        ("#Jazz in the #park.", ("jazz", "park")),
        ("#jazz #JAZZ #Jazz", ("jazz",)),
        ("#Straße #STRASSE", ("strasse",)),
        ("#café and #cafe are two", ("café", "cafe")),
        ("#cafe\u0301 decomposed", ("café",)),
        ("＃Ｔｏｋｙｏ #東京", ("tokyo", "東京")),
        ("#हिन्दी #ไทยแลนด์ #العربية", ("हिन्दी", "ไทยแลนด์", "العربية")),
        ("#می\u200cخواهم", ("میخواهم",)),
        ("#İstanbul", ("i\u0307stanbul",)),
        ("#2026 #1 #_ but #q4 and #covid_19 and #4ever", ("q4", "covid_19", "4ever")),
        ("#one#two##three", ("one", "two", "three")),
        ("a#b &#39; &#x27;", ()),
        ("(#a) '#b', #c! #d-e", ("a", "b", "c", "d")),
        ("https://example.org/#top HTTPS://x/#y #z", ("z",)),
        ("#️⃣ # #", ()),
        ("#" + "x" * TAG_LENGTH_MAX, ("x" * TAG_LENGTH_MAX,)),
        ("#" + "x" * (TAG_LENGTH_MAX + 1), ()),
        ("#" + "\ufdfa" * 400, ()),
        ("#\ud800 #ok\ud800", ("ok",)),
    ],
)
def test_hashtags_are_runs_of_letters_after_their_sign(text: str, tags: tuple[str, ...]) -> None:
    assert hashtags(text) == tags


def test_tags_of_plain_texts_are_those_of_any_text() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(3_000):
        text = "".join(chance.choices("##&aB1_ ,/:", k=16))
        # What is behind a space is in no tag before it, and makes the text one of many scripts.
        assert hashtags(text) == hashtags(f"{text} ß"), text


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("nobody", ()),
        ("@Ada and @ada_l, (@bob_42)!", ("ada", "ada_l", "bob_42")),
        ("ada@example.org is not one, @ab is too short", ()),
        ("@" + "a" * 30 + " @" + "b" * 31, ("a" * 30,)),
        ("＠ada", ("ada",)),
        ("https://example.org/@ada @eve", ("eve",)),
        ("@@ada @eveß", ()),
    ],
)
def test_mentions_are_user_names_after_their_sign(text: str, names: tuple[str, ...]) -> None:
    assert mentions(text) == names


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("Don't STOP, l'amour!", ["don", "t", "stop", "l", "amour"]),
        (
            "Élodie Ångström Øre Łódź ĐẶNG Œuvre",
            ["elodie", "angstrom", "ore", "lodz", "dang", "oeuvre"],
        ),
        ("İstanbul ISTANBUL ırmak", ["istanbul", "istanbul", "irmak"]),
        ("Ελλάδα ΕΛΛΆΔΑ ёлка", ["ελλαδα", "ελλαδα", "елка"]),
        ("ガギグ ｶﾞ 한국어", ["ガギグ", "ガ", "한국어"]),
        ("हिन्दी", ["हिन्दी"]),
        ("ada_love co\u00adop", ["ada_love", "coop"]),
        ("x² ﬁne", ["x2", "fine"]),
    ],
)
def test_words_are_folded_and_keep_their_order(text: str, found: list[str]) -> None:
    assert words(text) == found


def test_folding_twice_changes_nothing_more_whatever_the_text() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(3_000):
        text = "".join(chr(chance.randrange(0x110000)) for _ in range(12)) + chance.choice("#@ß")
        assert case_folded(case_folded(text)) == case_folded(text), ascii(text)
        assert folded(folded(text)) == folded(text), ascii(text)
        for tag in hashtags("#" + text):
            assert hashtags("#" + tag) == (tag,), ascii(text)


def test_hostile_texts_take_time_in_proportion_to_their_length() -> None:
    for text in (
        "#" * 500_000,
        "#a" * 250_000,
        "@a" * 250_000,
        "https://" * 60_000,
        "\u0301" * 500_000,
    ):
        before = time.process_time()
        hashtags(text), mentions(text), words(text)
        assert time.process_time() - before < 2.0
