"""What a product may say; raises `Invalid`."""

from collections.abc import Mapping, Sequence

from domain.commerce.product.events import Attribute
from domain.shared.rejection import Invalid
from domain.shared.values import check_count, check_https_url, check_text

TITLE_LENGTH_MAX = 200
DESCRIPTION_LENGTH_MAX = 5_000
CATEGORY_LENGTH_MAX = 100
MEDIA_MAX = 10
ATTRIBUTES_MAX = 50
ATTRIBUTE_NAME_LENGTH_MAX = 100
ATTRIBUTE_LENGTH_MAX = 1_000
NUMBER_MAX = 2**53


def check_title(title: str) -> None:
    check_text(title, "/title", length_min=1, length_max=TITLE_LENGTH_MAX)


def check_description(description: str) -> None:
    check_text(description, "/description", length_min=0, length_max=DESCRIPTION_LENGTH_MAX)


def check_category(category: str) -> None:
    check_text(category, "/category", length_min=1, length_max=CATEGORY_LENGTH_MAX)


def check_media_urls(urls: Sequence[str]) -> None:
    check_count(urls, "/mediaUrls", count_max=MEDIA_MAX)
    for index, url in enumerate(urls):
        check_https_url(url, f"/mediaUrls/{index}")


def check_attributes(attributes: Mapping[str, Attribute]) -> None:
    if len(attributes) > ATTRIBUTES_MAX:
        raise Invalid("/attributes", f"must have at most {ATTRIBUTES_MAX} members")
    for name, value in attributes.items():
        check_text(name, "/attributes", length_min=1, length_max=ATTRIBUTE_NAME_LENGTH_MAX)
        pointer = "/attributes/" + name.replace("~", "~0").replace("/", "~1")
        if isinstance(value, str):
            check_text(value, pointer, length_min=0, length_max=ATTRIBUTE_LENGTH_MAX)
        elif not -NUMBER_MAX <= value <= NUMBER_MAX:
            raise Invalid(pointer, f"must be within {NUMBER_MAX} of zero")
