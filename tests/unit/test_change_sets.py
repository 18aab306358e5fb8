"""How the changes of many events become few rows."""

import pytest

from infra.adapters.tables.change_sets import ChangeSet
from infra.ports.log import OPEN
from infra.ports.tables import Add, Change, Close, Insert, Revise, RowMissing
from projections.graph import FOLLOWS, MEMBER_COUNTS
from projections.graph import PROJECTION as GRAPH
from projections.members import MEMBERS
from projections.members import PROJECTION as MEMBERS_PROJECTION


def change_set(*changes: tuple[int, Change]) -> ChangeSet:
    found = ChangeSet(GRAPH.tables)
    found.add([(position, (change,)) for position, change in changes])
    return found


def test_a_row_that_begins_and_ends_is_written_once() -> None:
    follows = change_set(
        (4, Insert(FOLLOWS, (1, 2))), (6, Close(FOLLOWS, (1, 2))), (9, Insert(FOLLOWS, (1, 2)))
    ).rows["follows"]
    assert follows.rows == [[1, 2, 4, 6], [1, 2, 9, OPEN]]
    assert follows.closes == {}


def test_a_row_that_began_before_is_ended_in_the_table() -> None:
    follows = change_set((6, Close(FOLLOWS, (1, 2))), (9, Insert(FOLLOWS, (1, 2)))).rows["follows"]
    assert follows.rows == [[1, 2, 9, OPEN]]
    assert follows.closes == {(1, 2): 6}


def test_deltas_are_summed_by_key() -> None:
    counts = change_set(
        (9, Add(MEMBER_COUNTS, 1, (1, 0))),
        (4, Add(MEMBER_COUNTS, 1, (1, -1))),
        (5, Add(MEMBER_COUNTS, 2, (0, 1))),
    ).counts["member_counts"]
    assert counts.deltas == {1: [2, -1, 9], 2: [0, 1, 5]}


def test_whoever_is_touched_is_named_by_kind() -> None:
    found = change_set(
        (4, Insert(FOLLOWS, (1, 2))),
        (5, Close(FOLLOWS, (3, 2))),
        (5, Add(MEMBER_COUNTS, 2, (0, 1))),
    ).touched()
    assert found == {"relations": {1, 3}, "members": {2}}


def member_row(bio: bytes, since: int, until: int) -> list[object]:
    return [1, "key", b"n", b"d", bio, None, False, None, False, since, until]


def test_revisions_continue_from_the_stored_row_and_from_each_other() -> None:
    found = ChangeSet(MEMBERS_PROJECTION.tables)
    found.add(
        [
            (5, [Revise(MEMBERS, (1,), {"bio": b"five"})]),
            (8, [Revise(MEMBERS, (1,), {"display_name": b"eight"})]),
        ]
    )
    rows = found.rows["members"]
    assert rows.revised_keys() == [(1,)]
    rows.complete({(1,): member_row(b"old", 2, OPEN)})
    last = member_row(b"five", 8, OPEN)
    last[3] = b"eight"
    assert rows.rows == [member_row(b"five", 5, 8), last]
    assert rows.closes == {(1,): 5}


def test_a_revision_of_a_row_that_is_not_there_is_an_error() -> None:
    found = ChangeSet(MEMBERS_PROJECTION.tables)
    found.add([(5, [Revise(MEMBERS, (1,), {"bio": b"five"})])])
    with pytest.raises(RowMissing):
        found.rows["members"].complete({})
