"""How much one caller may ask of the command service, by route, and how settings change that."""

import re
from collections.abc import Iterable, Mapping

from starlette.routing import BaseRoute, Route

from infra.composition.settings import Settings, SettingsInvalid
from infra.http.rate_limits import Limit

EVERYTHING_ELSE = "*"

LIMITS: Mapping[str, Limit] = {
    "POST /api/users": Limit(per_minute=3_000, burst=5_000),
    "POST /api/sessions": Limit(per_minute=3_000, burst=5_000),
    "DELETE /api/users/me": Limit(per_minute=10, burst=10),
    "POST /api/posts": Limit(per_minute=300, burst=600),
    "POST /api/posts/{postId}/like": Limit(per_minute=1_200, burst=1_200),
    "POST /api/posts/{postId}/repost": Limit(per_minute=600, burst=600),
    "POST /api/checkouts": Limit(per_minute=30, burst=60),
    "POST /api/users/{userId}/follow": Limit(per_minute=600, burst=1_200),
    EVERYTHING_ELSE: Limit(per_minute=1_200, burst=1_200),
}
"""Per member; before a log-in per address, behind which many people may stand."""

FAILED_LOG_INS = Limit(per_minute=1, burst=10)
"""Wrong passwords for one name from one address."""

ENTRY = re.compile(r"\s*((?:[A-Z]+ )?\S+) ([0-9]{1,7})/([0-9]{1,7})\s*")


def refuse_unknown(limits: Mapping[str, Limit] | None, routes: Iterable[BaseRoute]) -> None:
    """Raises `SettingsInvalid` where a limit is set for a route that there is not."""
    known = {f"{m} {r.path}" for r in routes if isinstance(r, Route) for m in r.methods or ()}
    if unknown := sorted(set(limits or ()) - known - {EVERYTHING_ELSE}):
        raise SettingsInvalid(
            f"PLAZA_RATE_LIMITS_TABLE names {', '.join(unknown)}, which is no route of the command "
            "service; its /docs lists them"
        )


def limits_of(settings: Settings) -> Mapping[str, Limit] | None:
    """The table in force; None where nothing is limited. Raises `SettingsInvalid`."""
    if settings.rate_limits == "off":
        return None
    return {**LIMITS, **parsed(settings.rate_limits_table)}


def parsed(text: str) -> dict[str, Limit]:
    """Entries like `POST /api/posts 60/120`: 60 a minute, 120 at once. Raises `SettingsInvalid`."""
    entries = [entry for entry in text.split(",") if entry.strip()]
    return dict(map(parsed_entry, entries))


def parsed_entry(entry: str) -> tuple[str, Limit]:
    found = ENTRY.fullmatch(entry)
    if found is None or "0" in found.group(2, 3):
        raise SettingsInvalid(
            f"PLAZA_RATE_LIMITS_TABLE has the entry {entry.strip()!r}, but an entry is a route, "
            "how many a minute and how many at once: POST /api/posts 60/120"
        )
    route, per_minute, burst = found.groups()
    return route, Limit(per_minute=int(per_minute), burst=int(burst))
