"""What the texts of an account must look like; raises `Invalid`."""

import re

from domain.shared.rejection import Invalid
from domain.shared.values import check_https_url, check_text

DISPLAY_NAME_LENGTH_MAX = 100
BIO_LENGTH_MAX = 500
EMAIL_LENGTH_MAX = 254
PASSWORD_LENGTH_MIN = 8
PASSWORD_LENGTH_MAX = 1_000

_is_username = re.compile(r"[a-z0-9_]{3,30}").fullmatch
_is_email = re.compile(r"[^@\s]+@[^@\s]+").fullmatch


def check_username(username: str, pointer: str = "/username") -> None:
    if not _is_username(username):
        raise Invalid(pointer, "must have 3 to 30 characters out of a-z, 0-9 and _")


def check_display_name(name: str, pointer: str = "/displayName") -> None:
    check_text(name, pointer, length_min=1, length_max=DISPLAY_NAME_LENGTH_MAX)


def check_bio(bio: str, pointer: str = "/bio") -> None:
    check_text(bio, pointer, length_min=0, length_max=BIO_LENGTH_MAX)


def check_email(email: str, pointer: str = "/email") -> None:
    """An empty one is none."""
    check_text(email, pointer, length_min=0, length_max=EMAIL_LENGTH_MAX)
    if email and not _is_email(email):
        raise Invalid(pointer, "must be an e-mail address")


def check_avatar_url(url: str, pointer: str = "/avatarUrl") -> None:
    """An empty one takes the picture away."""
    if url:
        check_https_url(url, pointer)


def check_password(password: str, pointer: str = "/password") -> None:
    check_text(password, pointer, length_min=PASSWORD_LENGTH_MIN, length_max=PASSWORD_LENGTH_MAX)
