"""Every command there is, and the aggregate that decides it."""

from typing import Any, get_args

from domain.shared.decider import Decider
from domain.social.engagement.commands import LikeCommand, RepostCommand
from domain.social.engagement.decider import LIKE, REPOST
from domain.social.member.commands import MemberCommand, UsernameCommand
from domain.social.member.decider import MEMBER, USERNAME
from domain.social.post.commands import PostCommand
from domain.social.post.decider import POST
from domain.social.relation.commands import RelationCommand
from domain.social.relation.decider import RELATION
from domain.social.session.commands import SessionCommand
from domain.social.session.decider import SESSION

DECIDERS: dict[type, Decider[Any, Any, Any]] = {
    **dict.fromkeys(get_args(MemberCommand), MEMBER),
    **dict.fromkeys(get_args(UsernameCommand), USERNAME),
    **dict.fromkeys(get_args(SessionCommand), SESSION),
    **dict.fromkeys(get_args(RelationCommand), RELATION),
    **dict.fromkeys(get_args(PostCommand), POST),
    **dict.fromkeys(get_args(LikeCommand), LIKE),
    **dict.fromkeys(get_args(RepostCommand), REPOST),
}
