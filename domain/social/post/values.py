"""What a post may hold; raises `Invalid`."""

from collections.abc import Sequence

from domain.shared.values import check_count, check_https_url, check_id, check_text

CONTENT_LENGTH_MAX = 500
MEDIA_MAX = 4
PRODUCTS_MAX = 5


def check_content(content: str, pointer: str = "/content") -> None:
    check_text(content, pointer, length_min=1, length_max=CONTENT_LENGTH_MAX)


def check_media_urls(urls: Sequence[str], pointer: str = "/mediaUrls") -> None:
    check_count(urls, pointer, count_max=MEDIA_MAX)
    for index, url in enumerate(urls):
        check_https_url(url, f"{pointer}/{index}")


def check_product_ids(product_ids: Sequence[str], pointer: str = "/productIds") -> None:
    check_count(product_ids, pointer, count_max=PRODUCTS_MAX)
    for index, product_id in enumerate(product_ids):
        check_id(product_id, f"{pointer}/{index}")
