"""The search service's parts, built from the settings."""

from infra.adapters.opensearch_search import OpenSearchReads
from infra.adapters.search_client import search_client
from infra.adapters.search_guard import Guard, Limits
from infra.composition.settings import Settings
from infra.search_reads import PostRanking


def search_reads(settings: Settings, limits: Limits | None = None) -> OpenSearchReads:
    """To be closed after use. Nothing is asked yet: the server may come later."""
    limits = limits or Limits()
    # A request under way on each connection; what waits for its turn does so in the guard.
    client = search_client(settings.opensearch_url, limits.seconds, limits.running_max)
    return OpenSearchReads(client, Guard(limits), ranking_of(settings))


def ranking_of(settings: Settings) -> PostRanking:
    return PostRanking(
        half_life_days=settings.search_half_life_hours / 24,
        recency_weight=settings.search_recency_weight,
        engagement_weight=settings.search_engagement_weight,
    )
