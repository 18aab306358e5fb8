"""What operators are shown of documents that differ."""

from infra.command_line.differences import lines
from infra.ports.keepers import Different


def test_documents_are_shown_side_by_side_with_ids_as_everywhere_else() -> None:
    different = Different(
        place="member_counts",
        computed={"member_id": 5001, "followers": 5},
        served={"member_id": 5001, "followers": 6},
    )
    heading, _, followers = lines(different, "build", "2", "1")
    assert heading == 'member_counts  {"member_id":"00000000004s9"}'
    assert followers.split() == ["followers", "5", "6"]


def test_a_document_that_only_one_has_is_shown_whole() -> None:
    different = Different(
        place="follows", computed=None, served={"follower_id": 5005, "since": 19981}
    )
    assert lines(different, "build", "2", "1") == [
        "follows: only build 1 has",
        '  {"follower_id":"00000000004sd","since":19981}',
    ]
