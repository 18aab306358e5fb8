"""Accounts as pages show them: those that the reader may see, now and as of a position."""

from collections.abc import Sequence
from functools import partial

from msgspec import UNSET

from domain.shared.identifiers import id_text
from infra.ports.reads import CountsRow, MemberRow
from query_api.context import Context
from query_api.shapes.social import Profile
from query_api.timelines.viewers import NOBODY, Viewer


async def profiles(context: Context, viewer: Viewer, numbers: Sequence[int]) -> Sequence[Profile]:
    """The profiles of those accounts that there are and that the reader may see."""
    found = await context.reads.profiles(numbers, viewer.number)
    await context.keyring.fetch(id_text(row.member_id) for row in found.members)
    counts = {row.member_id: row for row in found.counts}
    return [
        profile_of(context, row, counts[row.member_id], viewer, found.following)
        for row in found.members
        if not row.erased and row.member_id not in viewer.blocked
    ]


async def profiles_at(context: Context, then: Viewer, number: int, at: int) -> Sequence[Profile]:
    """The profile of an account as it was at a position, if the reader might see it then."""
    if number in then.blocked:
        return []
    rows = await context.reads.members_at(at, [number])
    if not rows or rows[0].erased:
        return []
    counts = await context.reads.counts_at(at, number)
    following = frozenset[int]()
    if then is not NOBODY:
        following = await context.reads.following_among(then.number, [number], at)
    await context.keyring.fetch([id_text(number)])
    profile = profile_of(context, rows[0], counts, then, following)
    # The key of an account erased later is gone, and with it all that its profile said.
    return [] if profile.username is None else [profile]


def profile_of(
    context: Context,
    row: MemberRow,
    counts: CountsRow,
    viewer: Viewer,
    following: frozenset[int],
) -> Profile:
    person = id_text(row.member_id)
    opened = partial(context.keyring.open, person)
    return Profile(
        id=person,
        username=opened(row.username),
        display_name=opened(row.display_name),
        bio=opened(row.bio),
        avatar_url=opened(row.avatar_url),
        is_verified=row.is_verified,
        follower_count=counts.followers,
        following_count=counts.following,
        post_count=counts.posts,
        following=UNSET if viewer is NOBODY else row.member_id in following,
    )
