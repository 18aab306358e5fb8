"""Every event there is. Decoders are built from this union, so an event left out cannot be read."""

from domain.social.events import SocialEvent

AnyEvent = SocialEvent
