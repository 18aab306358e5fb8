"""Reading the event log from outside of the services, assembled."""

import contextlib
from collections.abc import AsyncGenerator, Collection
from typing import Any

from domain.social.member.events import MemberErased
from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.secrets.keyring import PostgresKeyring
from infra.composition.settings import Settings
from infra.formats.codec import Line, decode_lines, person_of
from infra.runtime.event_documents import document, unreadable_document

LINES_AT_ONCE = 1_000
WAIT_SECONDS = 5.0


async def tail(
    settings: Settings, *, after: int, types: Collection[str], stream: str | None, follow: bool
) -> AsyncGenerator[dict[str, Any], None]:
    """The log's events as documents, in order; with `follow` without end.

    Without it, those that were there when it began.
    """
    async with contextlib.AsyncExitStack() as stack:
        log = await PostgresEventLog.open(settings.postgres_url)
        stack.push_async_callback(log.close)
        keyring = await PostgresKeyring.connect(settings.postgres_url)
        stack.push_async_callback(keyring.close)
        end = await log.head()
        while follow or after < end:
            lines = await log.read_lines(after, LINES_AT_ONCE)
            if not lines:
                if not follow:
                    return
                await log.wait(after, WAIT_SECONDS)
                continue
            after = lines[-1].position
            wanted = [
                line
                for line in lines
                if (follow or line.position <= end) and stream in (None, line.stream)
            ]
            for found in await documents(wanted, keyring):
                if not types or found["type"] in types:
                    yield found


async def documents(lines: list[Line], keyring: PostgresKeyring) -> list[dict[str, Any]]:
    events, unreadable = decode_lines(lines)
    persons = {person for one in events if (person := person_of(one.event)) is not None}
    for one in events:
        if isinstance(one.event, MemberErased):
            keyring.forget(one.event.member_id)
    await keyring.fetch(persons)
    found = [document(one, keyring) for one in events]
    found += [unreadable_document(one) for one in unreadable]
    return sorted(found, key=lambda one: int(one["position"]))
