"""What an event does to home timelines: it brings an entry, or it changes who gets entries.

Nothing else does anything. What is deleted, taken back or hidden stays in timelines, since limits
count before that is subtracted; readers leave it out.
"""

from typing import assert_never, get_args

from domain.shared.identifiers import id_number
from domain.social.engagement.events import PostReposted
from domain.social.post.events import PostPublished
from domain.social.relation.events import Followed, Unfollowed
from infra.ports.log import Recorded
from infra.ports.timelines import Bring, Effect, Gain, Lose

Handled = PostPublished | PostReposted | Followed | Unfollowed
HANDLES = frozenset(get_args(Handled))


def effect_of(recorded: Recorded) -> Effect | None:
    event = recorded.event
    if type(event) not in HANDLES:
        return None
    handled: Handled = event  # type: ignore[assignment]
    position = recorded.position
    match handled:
        case PostPublished():
            if handled.reply_to is not None and not handled.continues_thread:
                return None
            return Bring(id_number(handled.author_id), position, position)
        case PostReposted():
            return Bring(id_number(handled.member_id), position, handled.post_position)
        case Followed():
            return Gain(id_number(handled.followee_id), id_number(handled.follower_id), position)
        case Unfollowed():
            return Lose(id_number(handled.followee_id), id_number(handled.follower_id), position)
        case _:
            assert_never(handled)
