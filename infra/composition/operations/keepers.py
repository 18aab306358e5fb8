"""Everything that is kept from the log, by the name that operators call it."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from infra.composition.operations.projections_overview import overview_of_tables
from infra.composition.operations.search_keeper import SearchKeeper
from infra.composition.operations.tables_keeper import TablesKeeper
from infra.composition.operations.timelines_keeper import TimelinesKeeper
from infra.composition.operations.verifying import verify_together
from infra.composition.settings import Settings
from infra.ports.keepers import CannotVerify, Keeper, Progress, Verified
from projections import COMMERCE, SOCIAL
from projections.search import SEARCH

Found = Mapping[str, Verified | CannotVerify]


def keepers(settings: Settings) -> dict[str, Keeper]:
    found: list[Keeper] = [
        TablesKeeper(settings, projection) for projection in (*SOCIAL, *COMMERCE)
    ]
    if settings.redis_url:
        found.append(TimelinesKeeper(settings))
    if settings.opensearch_url:
        found += [SearchKeeper(settings, projection) for projection in SEARCH.values()]
    return {keeper.name: keeper for keeper in found}


def verifications(
    settings: Settings, *, repair: bool
) -> dict[str, Callable[[Progress], Awaitable[Found]]]:
    """How everything is verified, in as few passes over the log as can be."""
    found: dict[str, Callable[[Progress], Awaitable[Found]]] = {
        "the social half": partial(verify_together, settings, SOCIAL, repair=repair),
        "the commerce half": partial(verify_together, settings, COMMERCE, repair=repair),
    }
    for keeper in keepers(settings).values():
        if not isinstance(keeper, TablesKeeper):
            found[keeper.name] = partial(verify_one, keeper, repair=repair)
    return found


async def verify_one(keeper: Keeper, progress: Progress, *, repair: bool) -> Found:
    try:
        return {keeper.name: await keeper.verify(progress, repair=repair)}
    except CannotVerify as problem:
        return {keeper.name: problem}


async def overview(settings: Settings) -> list[dict[str, Any]]:
    """One row a build of everything that is kept. Raises `psycopg.Error`."""
    rows = await overview_of_tables(settings)
    for keeper in keepers(settings).values():
        if not isinstance(keeper, TablesKeeper):
            rows += [dict(row) for row in await keeper.overview()]
    return rows
