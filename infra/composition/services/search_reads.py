"""What asks the search server, built from the settings."""

from infra.adapters.search.opensearch_search import OpenSearchReads
from infra.adapters.search.search_client import search_client
from infra.adapters.search.search_guard import Guard
from infra.composition.settings import Settings
from infra.ports.search_reads import PostRanking


def search_reads(settings: Settings, guard: Guard | None = None) -> OpenSearchReads:
    """To be closed after use. Nothing is asked yet: the server may come later."""
    guard = guard or Guard()
    limits = guard.limits
    # A request under way on each connection; what waits for its turn does so in the guard.
    client = search_client(settings.opensearch_url, limits.seconds, limits.running_max)
    return OpenSearchReads(client, guard, ranking_of(settings))


def ranking_of(settings: Settings) -> PostRanking:
    return PostRanking(
        half_life_days=settings.search_half_life_hours / 24,
        recency_weight=settings.search_recency_weight,
        engagement_weight=settings.search_engagement_weight,
    )
