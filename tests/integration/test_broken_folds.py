"""Code that is broken stops everything, and sets nothing aside; poison parks its key alone."""

import psycopg
import pytest

from domain.social.engagement.events import PostLiked
from domain.social.relation.events import Followed
from infra.ports.frames import Frame
from infra.ports.log import Recorded
from infra.runtime.projecting.alike import KEYS_ENOUGH, KEYS_MAX, FoldBroken
from infra.runtime.projecting.projection import Projection
from projections import graph
from tests.integration.tables import SOCIAL, chain, checkpoints, contents, projector, random_log

COUNT = 600


def failing_for(keys_max: int) -> Projection:
    """The graph, which cannot do follows of the first few accounts that are followed."""
    failed: set[str] = set()

    def fold(recorded: Recorded) -> object:
        event = recorded.event
        if type(event) is Followed:
            if len(failed) < keys_max:
                failed.add(event.followee_id)
            if event.followee_id in failed:
                raise AttributeError("a name that was misspelt")
        return graph.PROJECTION.fold(recorded)

    tables, handles = graph.PROJECTION.tables, graph.PROJECTION.handles
    return Projection("graph", 1, handles, tables, fold)  # type: ignore[arg-type]


def letters(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM dead_letters").fetchone()
    assert row is not None
    return int(row[0])


async def test_what_fails_alike_for_many_keys_stops_and_parks_nothing(postgres_url: str) -> None:
    events = await random_log(postgres_url, 161, COUNT)
    batches = chain(events, COUNT)
    async with projector(postgres_url, [failing_for(10_000)]) as target:
        with pytest.raises(FoldBroken, match=r"follow.started.v1 of \d+ keys"):
            await target.apply(batches[0])
    assert (letters(postgres_url), checkpoints(postgres_url)) == (0, {0})
    assert contents(postgres_url, [graph.PROJECTION])["follows"] == []
    # Once it is mended, nothing has been lost.
    async with projector(postgres_url, [graph.PROJECTION]) as target:
        await target.apply(batches[0])
    assert (letters(postgres_url), checkpoints(postgres_url)) == (0, {COUNT})
    assert contents(postgres_url, [graph.PROJECTION])["follows"] != []


async def test_what_fails_for_a_few_keys_is_poison(postgres_url: str) -> None:
    events = await random_log(postgres_url, 162, COUNT)
    async with projector(postgres_url, [failing_for(KEYS_ENOUGH - 1)]) as target:
        await target.apply(chain(events, COUNT)[0])
    assert letters(postgres_url) >= KEYS_ENOUGH - 1
    assert checkpoints(postgres_url) == {COUNT}


async def test_rows_of_a_known_type_that_all_cannot_be_read_stop_too(postgres_url: str) -> None:
    events = await random_log(postgres_url, 163, COUNT)
    likes = [one.position for one in events if type(one.event) is PostLiked]
    assert len(likes) > 2 * KEYS_MAX
    with psycopg.connect(postgres_url) as connection:
        # A field that every like must have is there under another name.
        connection.execute(
            "UPDATE log.events SET state = decode(replace(encode(state, 'hex'),"
            " encode('member_id', 'hex'), encode('menber_id', 'hex')), 'hex')"
            " WHERE notification_id = ANY(%s)",
            [likes],
        )
    async with projector(postgres_url, SOCIAL) as target:
        with pytest.raises(FoldBroken, match="cannot be decoded"):
            # A gap from the start: everything is taken from the log.
            await target.apply([Frame(part, COUNT, COUNT + 1, COUNT) for part in range(8)])
    assert letters(postgres_url) == 0
    # Those that do not look at likes went on.
    assert checkpoints(postgres_url) == {0, COUNT}
