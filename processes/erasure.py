"""When a member is erased, takes back what the member has left standing, by ordinary commands.

Every read model thereby stays a fold of its own events, and nobody keeps a second way to delete.
"""

import asyncio
from typing import Any, assert_never

import structlog

from domain.commerce.product.commands import ChangeProduct
from domain.shared.message import Command
from domain.social.engagement.commands import RemoveRepost, UnlikePost
from domain.social.member.events import MemberErased
from domain.social.post.commands import DeletePost
from domain.social.relation.commands import UnfollowMember
from infra.ports.log import Recorded
from infra.ports.processes import MemberTraces, Trace
from infra.ports.secrets import Keyring
from infra.runtime.commands.execute import Context, Execute
from infra.runtime.reacting.react import Process

COMMANDS_AT_ONCE_MAX = 256
ERASURES_AT_ONCE_MAX = 1_000
ERASURES_WAITING_MAX = 50_000
SWEEPS_AT_ONCE_MAX = 16
POLL_SECONDS = 0.05
POLL_SECONDS_MAX = 2.0
SETTLE_SECONDS = 1.5
"""A command of somebody who looked just before the erasure may be recorded just after it."""

log = structlog.get_logger()


def take_back(member_id: str, trace: Trace) -> Command:
    """The command that ends what a trace stands for."""
    match trace.kind:
        case "following":
            return UnfollowMember(
                follower_id=member_id, followee_id=trace.other_id, because_of="erasure"
            )
        case "follower":
            return UnfollowMember(
                follower_id=trace.other_id, followee_id=member_id, because_of="erasure"
            )
        case "post":
            return DeletePost(post_id=trace.other_id, member_id=member_id, because_of="erasure")
        case "like":
            return UnlikePost(post_id=trace.other_id, member_id=member_id)
        case "repost":
            return RemoveRepost(post_id=trace.other_id, member_id=member_id, because_of="erasure")
        case "product":
            return ChangeProduct(
                product_id=trace.other_id,
                seller_id=member_id,
                for_sale=False,
                because_of="erasure",
            )
        case _:
            assert_never(trace.kind)


class Erasure:
    """Harmless when repeated, from whichever point it stopped at."""

    def __init__(
        self,
        execute: Execute,
        keyring: Keyring,
        traces: MemberTraces,
        *,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self._execute = execute
        self._keyring = keyring
        self._traces = traces
        self._sweeps = asyncio.Semaphore(SWEEPS_AT_ONCE_MAX)
        self._settle_seconds = settle_seconds
        self._looking = asyncio.Lock()
        self._look_at = 0.0
        self._reached = 0

    async def react(self, erased: Recorded) -> None:
        """Returns when the read tables show nothing of the member any more; waits for as long as
        tables are away, even if those are only of one half."""
        event: Any = erased.event
        await self._keyring.destroy(event.member_id)
        # What is shown already goes at once; what is still on its way into the tables, afterwards.
        taken_back, covered = await self._sweep(event.member_id, erased, erased.position)
        settled = False
        while True:
            await self._shown(covered)
            number, covered = await self._sweep(event.member_id, erased, covered)
            taken_back += number
            if number:
                settled = False
            elif settled:
                break
            else:
                settled = True
                await asyncio.sleep(self._settle_seconds)
        log.info("member.traces_taken_back", member_id=event.member_id, traces=taken_back)

    async def _sweep(self, member_id: str, why: Recorded, covered: int) -> tuple[int, int]:
        """Take back everything that is shown now.

        Answers how many things that ended, and the position that the tables must pass to show it.
        """
        async with self._sweeps:
            return await self._taken_back(member_id, why, covered)

    async def _taken_back(self, member_id: str, why: Recorded, covered: int) -> tuple[int, int]:
        context = Context(correlation_id=why.correlation_id, causation_id=str(why.position))
        number = 0
        async for page in self._traces.of(member_id):
            for start in range(0, len(page), COMMANDS_AT_ONCE_MAX):
                together = page[start : start + COMMANDS_AT_ONCE_MAX]
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(
                            self._execute(take_back(member_id, trace), context=context)
                        )
                        for trace in together
                    ]
                outcomes = [task.result() for task in tasks]
                number += sum(bool(outcome.events) for outcome in outcomes)
                covered = max(covered, *(outcome.position for outcome in outcomes))
        return number, covered

    async def _shown(self, position: int) -> None:
        # Another process writes the tables, so there is nothing in this one to be woken by.
        pause = POLL_SECONDS
        while await self._position() < position:
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, POLL_SECONDS_MAX)

    async def _position(self) -> int:
        """How far the tables are; all that ask within a moment are told the same."""
        clock = asyncio.get_running_loop().time
        async with self._looking:
            if clock() >= self._look_at:
                self._reached = await self._traces.position()
                self._look_at = clock() + POLL_SECONDS
            return self._reached


def erasure(execute: Execute, keyring: Keyring, traces: MemberTraces) -> Process:
    return Process(
        name="erasure",
        handles=frozenset({MemberErased}),
        react=Erasure(execute, keyring, traces).react,
        # Those that wait for tables take no turn of one that could begin, and do not hold up the
        # frames, which the tables that they wait for are written from too.
        at_once=ERASURES_AT_ONCE_MAX,
        waiting_max=ERASURES_WAITING_MAX,
    )
