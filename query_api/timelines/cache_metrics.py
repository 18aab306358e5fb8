"""How often caches had what a feed page needed (K3): counted by the page, not by the item.

Every feed page looks for its reader's timeline, for the reader, and for the items it shows. It has
hit a cache if it found all of that there. What is counted here is counted anyway, or where
something has to be fetched, so that a page which finds everything pays nothing for it.
"""

from collections import Counter
from collections.abc import Mapping

from prometheus_client import CollectorRegistry

from infra.measures import Gauges, Labels
from query_api.timelines.items import Items
from query_api.timelines.stages import Stages
from query_api.timelines.viewers import Viewers

KEPT, OTHERS = "pushed", ("pulled", "degraded")


def measure_caches(
    registry: CollectorRegistry, stages: Stages, items: Items, viewers: Viewers
) -> None:
    counts: Counter[Labels] = Counter()

    def look() -> Mapping[Labels, float]:
        kept = stages.pages[KEPT]
        pages = kept + sum(stages.pages[source] for source in OTHERS)
        misses = {
            "timelines": pages - kept,
            "items": min(items.loads, pages),
            "viewers": min(viewers.loads, pages),
        }
        for cache, missed in misses.items():
            # Other pages look for readers, too: what they miss must not take a hit back.
            counts[cache, "hit"] = max(counts[cache, "hit"], pages - missed)
            counts[cache, "miss"] = missed
        return counts

    Gauges(
        "plaza_cache_requests_total",
        "Feed pages by whether they found all that they needed of a kind in its cache",
        ["cache", "result"],
        registry,
        look,
        counter=True,
    )
