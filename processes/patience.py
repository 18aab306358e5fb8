"""How long a provider's word is waited for before it is asked again, and until when it may be."""

from datetime import datetime, timedelta

SETTLE_SECONDS, SETTLE_SECONDS_MAX = 60.0, 3_600.0
"""How long an accepted capture or refund may stay without a notification before it is asked again,
and how far that wait grows, doubling."""
KEY_DAYS = 6.0
"""How long the provider surely knows a key: to ask again later could move the money twice."""
RETRY_SECONDS, RETRY_SECONDS_MAX = 0.25, 10.0


def retry_wait(tries: int) -> timedelta:
    return timedelta(seconds=min(RETRY_SECONDS * 2 ** min(tries, 10), RETRY_SECONDS_MAX))


def first_word_due(now: datetime) -> datetime:
    """When what is accepted now should have its notification."""
    return now + timedelta(seconds=SETTLE_SECONDS)


def settle_wait(tries: int) -> timedelta:
    return timedelta(seconds=min(SETTLE_SECONDS * 2 ** min(tries + 1, 10), SETTLE_SECONDS_MAX))


def lies_ahead(retry_at: datetime | None, longest_seconds: float, now: datetime) -> bool:
    """Whether it is still to be waited for. What lies further ahead than anything is ever put off
    was put off before the clock was set back."""
    return retry_at is not None and now < retry_at <= now + timedelta(seconds=longest_seconds)


def may_ask_again(settles_at: datetime | None, now: datetime) -> bool:
    """Whether the key of what was accepted, and is without a word since, is still known."""
    return settles_at is None or now < settles_at + timedelta(days=KEY_DAYS)
