"""The kinds of text that request bodies hold, as types that decoders check and the contract shows.

The domain checks the same again, and more: it is what decides. Here a limit makes a refusal cheap.
"""

from typing import Annotated

from msgspec import Meta

from domain.shared.values import URL_LENGTH_MAX
from domain.social.member.values import (
    BIO_LENGTH_MAX,
    DISPLAY_NAME_LENGTH_MAX,
    EMAIL_LENGTH_MAX,
    PASSWORD_LENGTH_MAX,
    PASSWORD_LENGTH_MIN,
)
from domain.social.post.values import CONTENT_LENGTH_MAX

WITHOUT_NUL = r"^[^\x00]*$"
PLACE = r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?([/?#][!-~]*)?"

Content = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=CONTENT_LENGTH_MAX,
        pattern=WITHOUT_NUL,
        description="the text, counted in Unicode code points",
    ),
]
HttpsUrl = Annotated[
    str,
    Meta(
        max_length=URL_LENGTH_MAX,
        pattern=rf"^https://{PLACE}$",
        description="an https address",
    ),
]
WebUrl = Annotated[
    str,
    Meta(
        max_length=URL_LENGTH_MAX,
        pattern=rf"^https?://{PLACE}$",
        description="an https or http address",
    ),
]
HttpsUrlOrEmpty = Annotated[
    str,
    Meta(
        max_length=URL_LENGTH_MAX,
        pattern=rf"^(https://{PLACE})?$",
        description="an https address; empty takes the picture away",
    ),
]
Username = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=30,
        pattern="^[a-z0-9_]{3,30}$",
        description="3 to 30 of a-z, 0-9 and _; nobody else's",
    ),
]
Password = Annotated[
    str,
    Meta(min_length=PASSWORD_LENGTH_MIN, max_length=PASSWORD_LENGTH_MAX, pattern=WITHOUT_NUL),
]
AnyPassword = Annotated[str, Meta(max_length=PASSWORD_LENGTH_MAX)]
AnyUsername = Annotated[str, Meta(max_length=100)]
DisplayName = Annotated[
    str, Meta(min_length=1, max_length=DISPLAY_NAME_LENGTH_MAX, pattern=WITHOUT_NUL)
]
Bio = Annotated[str, Meta(max_length=BIO_LENGTH_MAX, pattern=WITHOUT_NUL)]
Email = Annotated[
    str,
    Meta(
        max_length=EMAIL_LENGTH_MAX,
        pattern=r"^([^@\s\x00]+@[^@\s\x00]+)?$",
        description="an e-mail address; empty for none",
    ),
]
