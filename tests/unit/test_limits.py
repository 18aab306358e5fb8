"""What the table of rate limits in the settings may say."""

import pytest
from starlette.routing import Route

from infra.composition.services.limits import LIMITS, limits_of, refuse_unknown
from infra.composition.settings import Settings, SettingsInvalid
from infra.http.rate_limits import Limit

ROUTES = [Route("/api/posts", lambda _: None, methods=["POST"])]


def test_without_a_table_the_limits_are_those_we_chose() -> None:
    assert limits_of(Settings()) == LIMITS


def test_an_entry_replaces_the_limit_of_its_route_alone() -> None:
    limits = limits_of(Settings(rate_limits_table="POST /api/posts 60/120, * 5/7"))
    assert limits == {
        **LIMITS,
        "POST /api/posts": Limit(per_minute=60, burst=120),
        "*": Limit(per_minute=5, burst=7),
    }


def test_switched_off_nothing_is_limited_whatever_the_table_says() -> None:
    assert limits_of(Settings(rate_limits="off", rate_limits_table="* 5/7")) is None


@pytest.mark.parametrize("entry", ["POST /api/posts", "POST /api/posts 0/5", "60/120", "* 1/-1"])
def test_an_entry_that_cannot_be_read_is_named(entry: str) -> None:
    with pytest.raises(SettingsInvalid, match="has the entry"):
        limits_of(Settings(rate_limits_table=entry))


def test_a_route_that_there_is_not_is_named() -> None:
    refuse_unknown({"POST /api/posts": Limit(1, 1), "*": Limit(1, 1)}, ROUTES)
    with pytest.raises(SettingsInvalid, match="names POST /api/post, which is no route"):
        refuse_unknown({"POST /api/post": Limit(1, 1)}, ROUTES)
