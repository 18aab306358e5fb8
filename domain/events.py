"""Every event there is. Decoders are built from these, so an event left out cannot be read."""

from collections.abc import Callable, Mapping
from typing import Any

from domain.commerce.events import CommerceEvent
from domain.shared.message import Event
from domain.social.engagement.upcasts import OldEngagementEvent, RepostRemovedV1, repost_removed
from domain.social.events import SocialEvent

AnyEvent = SocialEvent | CommerceEvent
"""What every aggregate is made of."""

OldEvent = OldEngagementEvent
"""What the log may hold besides, from earlier versions; nobody is handed one."""

UPCASTS: Mapping[type[Event], Callable[[Any], Event]] = {RepostRemovedV1: repost_removed}
"""From each old event to the next version of it, which may be old as well."""
