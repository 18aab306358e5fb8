"""Cuts texts into the tokens that search compares: words, bigrams of scripts without spaces, stems.

Documents and queries go through the same functions, and the search server only splits at spaces;
so the embedded server and OpenSearch find exactly the same.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise
from threading import Lock
from typing import Any

import Stemmer

from domain.shared.text import WORD, case_folded, folded

__all__ = ["analysed", "language_of", "prefix_words", "prepare", "query_stems", "tokens"]

TOKEN_LENGTH_MAX = 100
"""What a longer one begins with stands for it; the server would cut it in two."""

FUNCTION_WORDS = {
    "en": "the and that this with from you your are have has they their what when there would"
    " could should about been were which because just not be can but how who we our if than then"
    " them did does some more very here only other into every never always again today",
    "de": "und der ist nicht ein eine einen einem einer ich sich auch mit dass sind oder aber wir"
    " für auf zu wie wenn haben wird werden hat kein keine nur schon sehr über nach beim vom zum"
    " zur uns dem von ihr sie bei aus im noch heute immer wieder mehr nichts gibt",
    "es": "el los las pero muy también y más cuando hoy esto yo siempre ahora donde mejor gracias"
    " puede qué fue tiene sin desde hasta están nada sus así",
    "fr": "les est pas dans avec pour une vous nous cette sur être au aux ça très où leur même"
    " aussi fait tout elle ils quand été comme et ce mon ont sont mes chaque toujours jamais rien"
    " aujourd hui moi ses",
}
"""Words of which a text of some other language that is told apart has hardly ever two."""
FUNCTION_WORDS_MIN = 2
WORDS_A_FUNCTION_WORD_MAX = 8
LATIN_LAST = "\u024f"

DETECTED_LENGTH_MAX = 80
"""So much tells the language, and what it costs grows with the length."""
UNKNOWN = "und"

STEMMED = {"en": "english", "de": "german", "es": "spanish", "fr": "french"}
OTHERS = ("ar", "hi", "id", "it", "ja", "ko", "nl", "pl", "pt", "ru", "sv", "tr", "uk", "vi", "zh")
LANGUAGES = (*STEMMED, *OTHERS)
"""Those told apart: what is none of them is taken for the nearest."""

SPACELESS = (
    "\u1100-\u11ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003347f"
)

_language_of_word = {
    word: language for language, words in FUNCTION_WORDS.items() for word in words.split()
}
_function_words = frozenset(_language_of_word)
_words = re.compile(WORD).findall
_ascii_words = re.compile(r"\w+", re.ASCII).findall
_has_spaceless = re.compile(f"[{SPACELESS}]").search
_runs = re.compile(f"[{SPACELESS}]+|[^{SPACELESS}]+").findall
_has_letters = re.compile(r"[^\W\d_]").search


def tokens(text: str) -> list[str]:
    """The words of a text in order, folded; runs of Chinese, Japanese or Korean as bigrams."""
    return [folded(token) for token in cased_tokens(text)]


def analysed(text: str) -> tuple[str, list[str], list[str]]:
    """The language of a text, its tokens and their stems."""
    cased = cased_tokens(text)
    plain = cased if text.isascii() else [folded(token) for token in cased]
    language = language_by_words(text, cased) or language_of(text)
    stemmer = _stemmer(language)
    if stemmer is None:
        return language, plain, plain
    stemmed = stemmer.stemWords(cased)
    return language, plain, stemmed if text.isascii() else [folded(token) for token in stemmed]


def query_stems(token: str) -> tuple[str, ...]:
    """What a word of a query may be as a stem, in whatever language its text is; each once."""
    cased = cased_tokens(token)
    found = [
        folded(stemmer.stemWord(one))
        for one in cased
        for language in STEMMED
        if (stemmer := _stemmer(language)) is not None
    ]
    return tuple(dict.fromkeys([*found, *(folded(one) for one in cased)]))


def prefix_words(*texts: str) -> tuple[str, ...]:
    """The words by whose beginnings a name is found, and the parts between their underscores."""
    found: dict[str, None] = {}
    for text in texts:
        for word in _words(folded(text)):
            for part in (word, *word.split("_")):
                if part:
                    found[part[:TOKEN_LENGTH_MAX]] = None
    return tuple(found)


def language_by_words(text: str, words: Sequence[str]) -> str | None:
    """The language that these words of a text leave no doubt of, if there is one; that takes a
    twentieth of the time."""
    telling = _function_words.intersection(words)
    languages = {_language_of_word[word] for word in telling}
    if (
        len(languages) == 1
        and len(telling) >= max(FUNCTION_WORDS_MIN, len(words) / WORDS_A_FUNCTION_WORD_MAX)
        and max(text) <= LATIN_LAST
    ):
        return languages.pop()
    return None


def language_of(text: str) -> str:
    """The ISO 639-1 code of the likeliest language, or `und` where there is nothing to go by."""
    if not _has_letters(text):
        return UNKNOWN
    language, _ = _identifier().classify(text[:DETECTED_LENGTH_MAX].encode("utf-8", "replace"))
    return str(language)


def prepare() -> None:
    """Load what detection needs, which takes a second or more; best done in a thread."""
    _identifier()


def cased_tokens(text: str) -> list[str]:
    if text.isascii():
        return [word[:TOKEN_LENGTH_MAX] for word in _ascii_words(text.lower())]
    found = _words(case_folded(text))
    return [token[:TOKEN_LENGTH_MAX] for word in found for token in parts(word)]


def parts(word: str) -> Iterable[str]:
    """The bigrams of what is written without spaces, and the rest as it is."""
    if not _has_spaceless(word):
        return (word,)
    return [token for run in _runs(word) for token in bigrams(run)]


def bigrams(run: str) -> Sequence[str]:
    if len(run) == 1 or not _has_spaceless(run):
        return (run,)
    return [first + second for first, second in pairwise(run)]


@cache
def _stemmer(language: str) -> Stemmer.Stemmer | None:
    name = STEMMED.get(language)
    return None if name is None else Stemmer.Stemmer(name)


def _identifier() -> Any:
    # Whoever comes while it is being loaded waits, rather than load it too.
    with _loading:
        return _loaded()


_loading = Lock()


@cache
def _loaded() -> Any:
    # The model takes 50 MB, which only those have who write documents. It would be 80 if what it
    # knows of other languages were kept beside it, as `set_languages` does.
    from py3langid.langid import MODEL_DIR, MODEL_FILE, LanguageIdentifier  # noqa: PLC0415
    from py3langid.modelio import load_model  # noqa: PLC0415

    features, priors, languages, moves, rows, outputs = load_model(MODEL_DIR / MODEL_FILE)
    kept = [at for at, language in enumerate(languages) if language in LANGUAGES]
    return LanguageIdentifier(
        # As it is stored, in half precision and column by column, scoring takes twice as long.
        features[:, kept].astype("float32", order="C"),
        priors[kept],
        [languages[at] for at in kept],
        moves,
        outputs,
        tk_row=rows,
    )
