"""Everything that is kept from the log, by the name that operators call it."""

from typing import Any

from infra.composition.projections_overview import overview_of_tables
from infra.composition.search_keeper import SearchKeeper
from infra.composition.settings import Settings
from infra.composition.tables_keeper import TablesKeeper
from infra.composition.timelines_keeper import TimelinesKeeper
from infra.keepers import Keeper
from projections import COMMERCE, SOCIAL
from projections.search import SEARCH


def keepers(settings: Settings) -> dict[str, Keeper]:
    found: list[Keeper] = [
        TablesKeeper(settings, projection) for projection in (*SOCIAL, *COMMERCE)
    ]
    if settings.redis_url:
        found.append(TimelinesKeeper(settings))
    if settings.opensearch_url:
        found += [SearchKeeper(settings, projection) for projection in SEARCH.values()]
    return {keeper.name: keeper for keeper in found}


async def overview(settings: Settings) -> list[dict[str, Any]]:
    """One row a build of everything that is kept. Raises `psycopg.Error`."""
    rows = await overview_of_tables(settings)
    for keeper in keepers(settings).values():
        if not isinstance(keeper, TablesKeeper):
            rows += [dict(row) for row in await keeper.overview()]
    return rows
