"""`plaza demo`: fill the running system with a lively made-up world, the way its people would."""

import argparse
import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from infra.command_line.demo_world import SIZES, World, make_world
from infra.command_line.verb import Context, Failure, print_json
from infra.composition.settings import Settings, service_address
from infra.composition.supervision.running import find_system

PASSWORD = "plaza-demo"  # noqa: S105
AT_ONCE = 16
ATTEMPTS_MAX = 20
LOG_INS_SHOWN = 5
HTTP_SECONDS = 30


def declare(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.add_argument("--seed", type=int, default=1, help="another seed, another world")
    parser.add_argument("--size", choices=list(SIZES), default="small", help="(default: small)")


def run(context: Context) -> int:
    settings, _ = find_system(context.settings)
    arguments = context.arguments
    world = make_world(arguments.seed, arguments.size)
    began = time.monotonic()
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=console,
        disable=context.json or not console.is_terminal,
        transient=True,
    )
    with progress:
        people = asyncio.run(fill(settings, world, arguments, progress))
    report(context, settings, world, people, time.monotonic() - began)
    return 0


@dataclass
class Client:
    """Speaks to the command service, and waits where it is asked to."""

    http: aiohttp.ClientSession
    base: str
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def send(
        self,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        key: str | None = None,
        accepted: Iterable[int] = (),
    ) -> tuple[int, Any]:
        """POST until it is answered for good. Raises `Failure` for a refusal not in `accepted`."""
        headers = {}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if key is not None:
            headers["Idempotency-Key"] = key
        problem: Any = None
        for attempt in range(ATTEMPTS_MAX):
            pause = 0.1 * (attempt + 1)
            try:
                async with (
                    self.turns,
                    self.http.post(self.base + path, json=body, headers=headers) as answer,
                ):
                    document = await answer.json(content_type=None)
                    if answer.status < 300 or answer.status in accepted:
                        return answer.status, document
                    problem = document
                    if answer.status not in {429, 503} and not in_flight(document):
                        break
                    pause = float(answer.headers.get("Retry-After", pause))
            except (aiohttp.ClientError, TimeoutError) as error:
                problem = repr(error)
            await asyncio.sleep(pause)
        raise Failure(f"POST {path} was refused: {problem}")


@dataclass(frozen=True)
class Inhabitant:
    user_id: str
    token: str


async def fill(
    settings: Settings, world: World, arguments: argparse.Namespace, progress: Progress
) -> list[Inhabitant]:
    base = service_address(settings, settings.command_api_port)
    mark = f"demo:{arguments.seed}:{arguments.size}"
    timeout = aiohttp.ClientTimeout(total=HTTP_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        client = Client(http, base)

        async def stage(name: str, calls: list[Awaitable[Any]]) -> list[Any]:
            task = progress.add_task(name, total=len(calls))

            async def counted(call: Awaitable[Any]) -> Any:
                answer = await call
                progress.advance(task)
                return answer

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(counted(call)) for call in calls]
            return [done.result() for done in tasks]

        with first_failure():
            people = await stage("members", [enter(client, person) for person in world.people])
            await stage(
                "follows",
                [
                    client.send(
                        f"/api/users/{people[followee].user_id}/follow",
                        token=people[follower].token,
                        accepted={403},
                    )
                    for follower, followee in world.follows
                ],
            )
            posts = await say(client, world, people, mark, stage)
            for name, deed, pairs in (
                ("likes", "like", world.likes),
                ("reposts", "repost", world.reposts),
            ):
                await stage(
                    name,
                    [
                        client.send(
                            f"/api/posts/{posts[post]}/{deed}",
                            token=people[member].token,
                            accepted={403, 404},
                        )
                        for member, post in pairs
                    ],
                )
    return people


async def enter(client: Client, person: Any) -> Inhabitant:
    """Sign up, or, where the world was made before, just log in."""
    await client.send(
        "/api/users",
        {
            "username": person.username,
            "password": PASSWORD,
            "displayName": person.display_name,
            "bio": person.bio,
        },
        accepted={409},
    )
    status, session = await client.send(
        "/api/sessions",
        {"username": person.username, "password": PASSWORD},
        accepted={401, 403},
    )
    if status >= 300:
        raise Failure(f"{person.username} is somebody else here: choose another --seed")
    return Inhabitant(session["userId"], session["token"])


async def say(
    client: Client,
    world: World,
    people: list[Inhabitant],
    mark: str,
    stage: Callable[[str, list[Awaitable[Any]]], Awaitable[list[Any]]],
) -> list[str]:
    """Publish every post, each after the one it answers or quotes; answers their ids.

    The idempotency key makes a second run publish nothing twice.
    """
    loop = asyncio.get_running_loop()
    ids: list[asyncio.Future[str]] = [loop.create_future() for _ in world.said]

    async def publish(index: int) -> str:
        said = world.said[index]
        body: dict[str, Any] = {"content": said.content}
        if said.reply_to is not None:
            body["replyTo"] = await ids[said.reply_to]
        if said.quote_of is not None:
            body["quoteOf"] = await ids[said.quote_of]
        _, answer = await client.send(
            "/api/posts", body, token=people[said.author].token, key=f"{mark}:{index}"
        )
        ids[index].set_result(answer["postId"])
        return str(answer["postId"])

    return await stage("posts", [publish(index) for index in range(len(world.said))])


def report(
    context: Context, settings: Settings, world: World, people: list[Inhabitant], seconds: float
) -> None:
    followers = Counter(followee for _, followee in world.follows)
    following = Counter(follower for follower, _ in world.follows)
    known = [index for index, _ in followers.most_common(LOG_INS_SHOWN)]
    reader = max(range(len(people)), key=lambda index: following[index])
    log_ins = [
        {
            "username": world.people[index].username,
            "displayName": world.people[index].display_name,
            "userId": people[index].user_id,
            "followers": followers[index],
            "following": following[index],
        }
        for index in dict.fromkeys([reader, *known])
    ]
    if context.json:
        print_json(
            {
                "members": len(world.people),
                "follows": len(world.follows),
                "posts": len(world.said),
                "likes": len(world.likes),
                "reposts": len(world.reposts),
                "seconds": round(seconds, 3),
                "password": PASSWORD,
                "logIns": log_ins,
            }
        )
        return
    print(
        f"{len(world.people):,} members, {len(world.follows):,} follows, {len(world.said):,} posts,"
        f" {len(world.likes):,} likes and {len(world.reposts):,} reposts in {seconds:.1f} s"
    )
    print(f"\nLog in as any of these; the password of all is {PASSWORD}\n")
    for person in log_ins:
        print(
            f"  {person['username']:<22} {person['followers']:>4} followers,"
            f" follows {person['following']}"
        )
    name = log_ins[0]["username"]
    command = service_address(settings, settings.command_api_port)
    query = service_address(settings, settings.query_api_port)
    body = f'{{"username": "{name}", "password": "{PASSWORD}"}}'
    print(
        f"\nTry\n\n  TOKEN=$(curl -s {command}/api/sessions -d '{body}' |\n"
        "    python3 -c 'import json, sys; print(json.load(sys.stdin)[\"token\"])')\n"
        f'  curl -s {query}/api/feed?limit=3 -H "Authorization: Bearer $TOKEN"\n'
        f"  curl -s {query}/api/users/@{log_ins[1]['username']}"
        ' -H "Authorization: Bearer $TOKEN"\n'
        f"\nor look around at {command}/docs and {query}/docs"
    )


def in_flight(problem: Any) -> bool:
    return isinstance(problem, dict) and problem.get("type") == "/problems/request-in-flight"


@contextlib.contextmanager
def first_failure() -> Any:
    """Of all that failed together, one is enough to be told."""
    try:
        yield
    except* Failure as group:
        problem: BaseException = group
        while isinstance(problem, BaseExceptionGroup):
            problem = problem.exceptions[0]
        raise Failure(str(problem)) from None
