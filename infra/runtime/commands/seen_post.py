"""Looks up, in other streams, what a command has to know about a post or a member."""

from domain.social.member.decider import member_stream, require_member
from domain.social.post.commands import SeenPost
from domain.social.post.decider import post_stream, see
from domain.social.relation.decider import Relation, relation_stream
from infra.runtime.commands.execute import Look

STRANGERS = Relation()


async def seen_post(look: Look, post_id: str, viewer_id: str) -> SeenPost:
    """The post as this member meets it. Raises `PostUnknown` where there never was one."""
    post = await look(post_stream(post_id))
    author_id = post.value.author_id
    relation = STRANGERS
    if author_id and author_id != viewer_id:
        relation = (await look(relation_stream(author_id, viewer_id))).value
    return see(post_id, post.value, post.first_position, relation)


async def known_member(look: Look, member_id: str) -> None:
    """Raises `MemberUnknown` where there is no such member, or none any more."""
    require_member(member_id, (await look(member_stream(member_id))).value)
