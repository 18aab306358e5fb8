"""Which projections and processes there are, and to which half of Plaza each belongs."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from infra.runtime.projecting.projection import Projection
from projections import COMMERCE, SOCIAL
from projections.search import COMMERCE_SEARCH, SOCIAL_SEARCH

TIMELINES = "home_timelines"
"""Keeps no tables but the timelines in Redis."""

SOCIAL_PROCESSES = ("erasure",)
COMMERCE_PROCESSES = ("checkout", "returns", "holds")


class NotKnown(Exception):
    """A worker was asked for a projection or process that there is not."""


class Tasks(NamedTuple):
    projections: list[str]
    processes: list[str]


def halves(
    projections: Collection[str] | None, processes: Collection[str] | None
) -> tuple[Tasks, Tasks]:
    """Those of these names, or of all there are, that are of the social half, and the others.

    Raises `NotKnown`.
    """
    social = [*names_of(SOCIAL), TIMELINES, *(search.name for search in SOCIAL_SEARCH)]
    commerce = [*names_of(COMMERCE), *(search.name for search in COMMERCE_SEARCH)]
    kept = chosen(projections, [*social, *commerce])
    running = chosen(processes, [*SOCIAL_PROCESSES, *COMMERCE_PROCESSES])
    return (
        Tasks(
            [name for name in kept if name in social],
            [name for name in running if name in SOCIAL_PROCESSES],
        ),
        Tasks(
            [name for name in kept if name in commerce],
            [name for name in running if name in COMMERCE_PROCESSES],
        ),
    )


def names_of(projections: Sequence[Projection]) -> list[str]:
    return [projection.name for projection in projections]


def chosen(names: Collection[str] | None, known: Collection[str]) -> list[str]:
    """These of the known names, or all, in the order in which they are known."""
    if names is None:
        return list(known)
    if unknown := set(names) - set(known):
        raise NotKnown(f"{', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return [name for name in known if name in names]
