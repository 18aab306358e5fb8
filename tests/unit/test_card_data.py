"""What counts as card data in clear."""

from typing import Any

import pytest

from infra.card_data import card_data_in, holds_card_number


def in_script(zero: int, text: str = "4111 1111 1111 1111") -> str:
    """The text with another script's digits, which begin at `zero`."""
    return text.translate({ord("0") + value: zero + value for value in range(10)})


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "my card is 378282246310005, thanks",
        "6011111111111117.",
        "test_4111111111111111",
        in_script(0xFF10),
        in_script(0x0660),
        "4111\u00a01111\u20111111\u20071111",
        "4111\u200b1111\u200b1111\u200b1111",
    ],
)
def test_a_card_number_is_seen(text: str) -> None:
    assert holds_card_number(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4111111111111112",
        "123456789012",
        "+49 30 1234567",
        "1" * 20,
        "12345 Berlin",
        "北京市１００号",
    ],
)
def test_other_digits_are_not(text: str) -> None:
    assert not holds_card_number(text)


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({"paymentMethod": {"number": "4111111111111111"}}, "/paymentMethod/number"),
        ({"a": [1, {"b": 4111111111111111}]}, "/a/1/b"),
        ({"a": {"4111111111111111": 1}}, "/a"),
        ({"encryptedCardNumber": "4111111111111111"}, "/encryptedCardNumber"),
        ({"street": "test_4111111111111111"}, "/street"),
        ({"encryptedCardNumber": "test_4111111111111111"}, None),
        ({"encryptedCardNumber": "adyenjs_0_1_25$MT6ppy0FAMVMLH"}, None),
        ({"a": None, "b": True, "c": [1.5]}, None),
    ],
)
def test_where_it_stands_is_told_without_telling_it(document: Any, pointer: str | None) -> None:
    assert card_data_in(document) == pointer
