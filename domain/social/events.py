"""Every event of the social half."""

from domain.social.engagement.events import EngagementEvent
from domain.social.member.events import MemberEvent, UsernameEvent
from domain.social.post.events import PostEvent
from domain.social.relation.events import RelationEvent
from domain.social.session.events import SessionEvent

SocialEvent = (
    MemberEvent | UsernameEvent | SessionEvent | RelationEvent | PostEvent | EngagementEvent
)
