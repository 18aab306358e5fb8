"""How texts become the tokens that search compares."""

import pytest
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from infra.adapters.search.text_analysis import (
    FUNCTION_WORDS,
    LANGUAGES,
    TOKEN_LENGTH_MAX,
    analysed,
    language_by_words,
    language_of,
    prefix_words,
    query_stems,
    tokens,
)


def test_tokens_are_folded_words() -> None:
    assert tokens("Élodie's CAFÉ, #München_2 ...") == ["elodie", "s", "cafe", "munchen_2"]


def test_scripts_without_spaces_become_bigrams_and_keep_their_neighbours_apart() -> None:
    assert tokens("東京タワーtoday 京") == ["東京", "京タ", "タワ", "ワー", "today", "京"]


def test_a_long_token_is_cut_to_what_the_server_keeps_whole() -> None:
    assert tokens("x" * 300) == ["x" * TOKEN_LENGTH_MAX]


@pytest.mark.parametrize(
    ("text", "language", "stem"),
    [
        ("The runners were running in the parks", "en", "run"),
        ("Gestern waren wir bei den alten Häusern", "de", "haus"),
        ("Corrió por las calles de la ciudad", "es", "corr"),
        ("Nous avons mangé avec les chevaux", "fr", "cheval"),
    ],
)
def test_a_text_has_the_stems_of_its_language(text: str, language: str, stem: str) -> None:
    found, plain, stemmed = analysed(text)
    assert found == language
    assert stem in stemmed
    assert len(plain) == len(stemmed)


def test_a_text_in_another_language_has_its_words_for_stems() -> None:
    _, plain, stemmed = analysed("Привет всем, хорошего дня")
    assert plain == stemmed


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Just got back from the gym and feeling great", "en"),
        ("Je ne sais pas quoi faire avec ça", "fr"),
        ("The Lord of the Rings ist ein sehr gutes Buch", None),
        ("Wie bitte", None),
        ("the and 昨日はとても楽しかったです", None),
        ("the and " + "lorem " * 20, None),
    ],
)
def test_function_words_tell_a_language_only_where_they_leave_no_doubt(
    text: str, language: str | None
) -> None:
    assert language_by_words(text, tokens(text)) == language


def test_no_function_word_belongs_to_two_languages() -> None:
    listed = [word for words in FUNCTION_WORDS.values() for word in words.split()]
    assert len(listed) == len(set(listed))


def test_a_text_without_letters_has_no_language() -> None:
    assert language_of("1 + 1 = 2 :-)") == "und"
    assert analysed("...") == ("und", [], [])


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("house", "many houses"),
        ("Haus", "die Häuser sind alt und schön"),
        ("corriendo", "ella corre por las calles con su perro"),
        ("cheval", "les chevaux sont dans le pré"),
    ],
)
def test_a_word_of_a_query_finds_its_other_forms(word: str, text: str) -> None:
    assert set(query_stems(word)) & set(analysed(text)[2])


def test_a_query_may_leave_accents_out() -> None:
    assert "crepe" in query_stems("crêpe")
    assert set(query_stems("crepe")) & set(analysed("J'ai mangé des crêpes ce matin")[2])


def test_names_are_found_by_the_beginning_of_every_part() -> None:
    assert prefix_words("anna_smith", "Änna Smith-Łee") == ("anna_smith", "anna", "smith", "lee")


@pytest.mark.parametrize("text", ["", "\ud800 broken", "a" * 5000, "🙂" * 50, "\u0301\u0301"])
def test_any_text_can_be_cut(text: str) -> None:
    language, plain, stemmed = analysed(text)
    assert isinstance(language, str)
    assert len(plain) == len(stemmed)


def test_leaving_other_languages_out_of_the_model_changes_no_answer() -> None:
    whole = LanguageIdentifier.from_model_file(MODEL_FILE)
    whole.set_languages(LANGUAGES)
    for text in ("Running shoes", "Die Häuser sind alt", "J'ai mangé", "zapatos nuevos", "東京"):
        assert language_of(text) == whole.classify(text.encode())[0]
