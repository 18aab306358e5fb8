"""Proving that a member is erased: nothing of theirs can be read or found, assembled.

What somebody wrote stands in the log for ever, sealed under a key that was theirs alone. So the
proof has two parts: no key that is left opens any of it, and no store holds any of it otherwise.
What to look for is known only before an erasure; `texts_of` takes it down then.
"""

import contextlib
import os
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

from domain.shared.identifiers import id_number
from domain.social.member.events import MemberErased, MemberRegistered, UsernameClaimed
from infra.adapters.archives.text_searches import (
    LENGTH_MIN,
    Searched,
    Sought,
    Tell,
    search_database,
    search_files,
    search_indices,
    search_redis,
    search_topics,
)
from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.log.log_queries import LogQueries
from infra.adapters.secrets.keyring import KEY_BYTES, NONCE_BYTES, PostgresKeyring, secret
from infra.composition.operations.export_folders import remembered
from infra.composition.settings import Settings
from infra.formats.codec import decode_lines, person_of, personal_fields, username_key
from infra.formats.personal_values import Read
from infra.ports.log import Recorded
from infra.runtime.frames.log_ranges import lines_between

SIGNED_WITH = "erasure reports"
TEXTS_MAX = 500
TRIES_MAX = 2_000_000
"""Each remaining key is tried on each sealed text, up to so many tries."""

Progress = Callable[[int, int], None]


class NoSuchMember(Exception):
    """Nobody of this id or name was ever a member."""


class NotSigned(Exception):
    """The report is not as it was signed."""


class Opened(Struct, kw_only=True, rename="camel"):
    """What became of the tries to read the sealed texts that the log holds of the member."""

    events: int = 0
    sealed_texts: int = 0
    keys: int = 0
    tries: int = 0
    opened: int = 0
    complete: bool = True


class Report(Struct, kw_only=True, rename="camel"):
    """`texts` is how many texts were looked for; `too_short` of those given were not."""

    member_id: str
    made_at: datetime
    position: int
    erased: bool
    erased_at: int | None
    key_destroyed: bool
    log: Opened
    texts: int
    too_short: int
    searched: list[Searched]
    remnants: list[Searched]
    proven: bool = False


class Signed(Struct, kw_only=True, rename="camel"):
    report: Report
    public_key: str
    signature: str


class Traces(Struct):
    """What the log tells of one member: `sealed` with how what was sealed is read."""

    sealed: list[tuple[bytes, Read]]
    events: int = 0
    erased_at: int | None = None


@dataclass(frozen=True)
class Wanted:
    """Texts to look for besides the name, and folders to look into besides those known."""

    texts: Sequence[str] = ()
    folders: Sequence[Path] = ()


async def prove(
    settings: Settings, member: str, wanted: Wanted, tell: Tell = lambda _what: None
) -> Signed:
    """Look for everything of a member in everything, and sign what was found.

    Raises `NoSuchMember`, `LogUnavailable`, and what the stores' clients raise.
    """
    url = settings.postgres_url
    member_id, name = await found_member(settings, member)
    async with opened(settings) as (log, keyring):
        head = await log.head()
        tell("the log")
        traces = await traces_of(log, member_id, head, lambda _reached, _head: None)
        await keyring.fetch([member_id])
        destroyed = not keyring.knows(member_id)
    texts = list(dict.fromkeys([*wanted.texts, *([name] if name else [])]))
    long = [text for text in texts if len(text.encode()) >= LENGTH_MIN]
    sought = Sought(long[:TEXTS_MAX])
    searched = [search_database(url, sought, tell)]
    if settings.redis_url:
        searched.append(search_redis(settings.redis_url, sought, tell))
    if settings.opensearch_url:
        searched.append(search_indices(settings.opensearch_url, sought, tell))
    if settings.kafka_bootstrap:
        searched.append(search_topics(settings.kafka_bootstrap, sought, tell))
    data = settings.folder.absolute()
    raw = data / "postgres"
    if data.is_dir():
        searched.append(search_files("data folder", data, sought, tell, leave_out=[raw]))
    named = [one.absolute() for one in wanted.folders]
    searched += [
        search_files(f"folder {folder}", folder, sought, tell)
        for folder in dict.fromkeys([*remembered(settings.folder), *named])
    ]
    remnants = [search_files("database files", raw, sought, tell)] if raw.is_dir() else []
    report = Report(
        member_id=member_id,
        made_at=datetime.now(UTC),
        position=head,
        erased=traces.erased_at is not None,
        erased_at=traces.erased_at,
        key_destroyed=destroyed,
        log=await tried(settings, member_id, traces),
        texts=len(long[:TEXTS_MAX]),
        too_short=len(texts) - len(long),
        searched=searched,
        remnants=remnants,
    )
    report.proven = proven(report)
    return await signed(settings, report)


def proven(report: Report) -> bool:
    nothing_opens = not report.log.opened and report.key_destroyed
    nowhere = not any(one.found or one.problem for one in report.searched)
    return report.erased and nothing_opens and nowhere


async def texts_of(
    settings: Settings, member: str, progress: Progress = lambda _reached, _head: None
) -> list[str]:
    """Every personal text that the log holds of a member who is not erased yet."""
    member_id, _ = await found_member(settings, member)
    found: dict[str, None] = {}
    async with opened(settings) as (log, keyring):
        await keyring.fetch([member_id])
        traces = await traces_of(log, member_id, await log.head(), progress)
        for sealed, read in traces.sealed:
            opened_text = keyring.open(member_id, sealed)
            said = () if opened_text is None else texts_in(read(opened_text))
            found |= {text: None for text in said if len(text.encode()) >= LENGTH_MIN}
    return list(found)


def texts_in(value: Any) -> Iterator[str]:
    """What of a personal value was written: the texts of a list, or of what a mapping says."""
    match value:
        case str():
            yield value
        case dict():
            yield from (text for text in value.values() if isinstance(text, str))
        case _:
            yield from value


@contextlib.asynccontextmanager
async def opened(
    settings: Settings,
) -> AsyncGenerator[tuple[PostgresEventLog, PostgresKeyring], None]:
    async with contextlib.AsyncExitStack() as stack:
        log = await PostgresEventLog.open(settings.postgres_url)
        stack.push_async_callback(log.close)
        keyring = await PostgresKeyring.connect(settings.postgres_url)
        stack.push_async_callback(keyring.close)
        yield log, keyring


async def found_member(settings: Settings, member: str) -> tuple[str, str]:
    """The id of a member by id or name, and the name where it was given: names are kept as keyed
    hashes, also after an erasure. Raises `NoSuchMember`."""
    name = member.removeprefix("@").lower()
    names = await secret(settings.postgres_url, "username")
    log = await PostgresEventLog.open(settings.postgres_url)
    try:
        if not member.startswith("@"):
            with contextlib.suppress(ValueError):
                id_number(member)
                for one in await log.load(f"member:{member}"):
                    if isinstance(one.event, MemberRegistered):
                        return member, ""
        claims = [one.event for one in await log.load(f"username:{username_key(names, name)}")]
    finally:
        await log.close()
    for event in reversed(claims):
        if isinstance(event, UsernameClaimed):
            return event.member_id, name
    raise NoSuchMember(f"there was never a member {member}")


async def traces_of(log: PostgresEventLog, member_id: str, head: int, progress: Progress) -> Traces:
    traces = Traces([])
    async with contextlib.aclosing(lines_between(log, 0, head + 1)) as batches:
        async for lines in batches:
            events, _ = decode_lines(lines)
            for one in events:
                note(traces, one, member_id)
            progress(lines[-1].position, head)
    return traces


def note(traces: Traces, recorded: Recorded, member_id: str) -> None:
    event: Any = recorded.event
    if isinstance(event, MemberErased) and event.member_id == member_id:
        traces.erased_at = recorded.position
    if person_of(event) == member_id:
        traces.events += 1
        for field, read in personal_fields(type(event)).items():
            value = getattr(event, field)
            if value is not None and value.sealed:
                traces.sealed.append((value.sealed, read))


async def tried(settings: Settings, member_id: str, traces: Traces) -> Opened:
    """Try every key that is left on every text that the log holds of the member."""
    done = Opened(events=traces.events, sealed_texts=len(traces.sealed))
    sealed = [one for one, _ in traces.sealed]
    queries = await LogQueries.open(settings.postgres_url)
    try:
        async with contextlib.aclosing(queries.keys()) as keys:
            async for key in keys:
                if len(key) != KEY_BYTES:
                    continue
                if done.tries + len(traces.sealed) > TRIES_MAX:
                    done.complete = False
                    break
                done.keys += 1
                done.tries += len(traces.sealed)
                done.opened += sum(opens(key, sealed, member_id))
    finally:
        await queries.close()
    return done


def opens(key: bytes, sealed: Sequence[bytes], member_id: str) -> Iterator[bool]:
    cipher = AESGCM(key)
    about = member_id.encode()
    for text in sealed:
        try:
            cipher.decrypt(text[:NONCE_BYTES], text[NONCE_BYTES:], about)
        except (InvalidTag, ValueError):
            yield False
        else:
            yield True


# Signing.


async def signed(settings: Settings, report: Report) -> Signed:
    key = Ed25519PrivateKey.from_private_bytes(await secret(settings.postgres_url, SIGNED_WITH))
    return Signed(
        report=report,
        public_key=key.public_key().public_bytes_raw().hex(),
        signature=key.sign(canonical(report)).hex(),
    )


def canonical(report: Report) -> bytes:
    return msgspec.json.encode(report, order="sorted")


def check_signature(file: Path) -> Signed:
    """The report in a file. Raises `NotSigned` where it is not as it was signed."""
    try:
        found = msgspec.json.decode(file.read_bytes(), type=Signed)
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(found.public_key))
        key.verify(bytes.fromhex(found.signature), canonical(found.report))
    except (msgspec.DecodeError, ValueError, InvalidSignature) as problem:
        raise NotSigned(f"{file} is not a report as it was signed: {problem!r}") from problem
    return found


async def own_public_key(settings: Settings) -> str:
    key = Ed25519PrivateKey.from_private_bytes(await secret(settings.postgres_url, SIGNED_WITH))
    return key.public_key().public_bytes_raw().hex()


def write_texts(file: Path, texts: Sequence[str]) -> None:
    """As a JSON array that only its owner may read."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened_file:
        opened_file.write(msgspec.json.encode(list(texts)) + b"\n")
