"""The plain eventsourcing library and our log: its own test cases, and an analyst's session."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psycopg
import pytest
from eventsourcing.application import Application
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    IntegrityError,
    Mapper,
    OperationalError,
    ProcessRecorder,
    ProgrammingError,
    StoredEvent,
    Tracking,
    TrackingRecorder,
)
from eventsourcing.postgres import (
    PostgresAggregateRecorder,
    PostgresApplicationRecorder,
    PostgresDatastore,
    PostgresProcessRecorder,
    PostgresTrackingRecorder,
)
from eventsourcing.projection import Projection, ProjectionRunner
from eventsourcing.tests import persistence as library
from eventsourcing.utils import Environment

from domain.social.engagement.events import PostLiked
from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.log.plaza_recorder import (
    LoggedEvent,
    LogMapper,
    PlazaFactory,
    PlazaLog,
    PlazaRecorder,
)
from infra.adapters.migrations import migrate
from infra.ports.log import Recorded

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def environment(postgres_url: str) -> dict[str, str]:
    parts = urlsplit(postgres_url)
    return {
        "POSTGRES_DBNAME": parts.path.removeprefix("/"),
        "POSTGRES_HOST": str(parts.hostname),
        "POSTGRES_PORT": str(parts.port),
        "POSTGRES_USER": str(parts.username),
        "POSTGRES_PASSWORD": parts.password or "",
    }


@contextmanager
def datastore(postgres_url: str, **options: Any) -> Iterator[PostgresDatastore]:
    values = environment(postgres_url)
    store = PostgresDatastore(
        values["POSTGRES_DBNAME"],
        values["POSTGRES_HOST"],
        values["POSTGRES_PORT"],
        values["POSTGRES_USER"],
        values["POSTGRES_PASSWORD"],
        **options,
    )
    with store:
        yield store


class RecorderCase:
    """Gives the library's cases a database each."""

    options: ClassVar[dict[str, Any]] = {}
    store: PostgresDatastore

    @pytest.fixture(autouse=True)
    def database(self, postgres_url: str) -> Iterator[None]:
        with datastore(postgres_url, pool_size=4, max_overflow=8, **self.options) as self.store:
            yield

    def create_recorder(self) -> PlazaRecorder:
        recorder = PlazaRecorder(self.store)
        recorder.create_table()
        return recorder


class TestApplicationRecorder(
    RecorderCase, library.ApplicationRecorderTestCase[PostgresApplicationRecorder]
):
    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()

    def test_a_subscription_sees_what_it_is_not_told_of(self) -> None:
        recorder = self.create_recorder()
        told_elsewhere = self.create_recorder()
        told_elsewhere.channel_name = "elsewhere"
        stored = StoredEvent(self.new_originator_id(), self.INITIAL_VERSION, "topic", b"state")
        with told_elsewhere.subscribe(gt=recorder.max_notification_id()) as subscription:
            recorder.insert_events([stored])
            assert next(subscription).originator_id == stored.originator_id


class TestApplicationRecorderOfTextIds(TestApplicationRecorder):
    options: ClassVar[dict[str, Any]] = {"originator_id_type": "text"}

    def new_originator_id(self) -> UUID | str:
        return f"post:{uuid4()}"


class TestOrderOfPositions(RecorderCase, library.NonInterleavingNotificationIDsBaseCase):
    insert_num = 1_000


class TestAggregateRecorder(library.AggregateRecorderTestCase):
    """What our factory makes for snapshots."""

    @pytest.fixture(autouse=True)
    def database(self, postgres_url: str) -> Iterator[None]:
        with PlazaFactory(Environment("test", environment(postgres_url))) as self.factory:
            yield

    def create_recorder(self) -> AggregateRecorder:
        return self.factory.aggregate_recorder("snapshots")


class Likes(PostgresTrackingRecorder):
    """How many likes each post has, kept with the position up to which they are counted."""

    def __init__(self, datastore: PostgresDatastore, **names: Any) -> None:
        super().__init__(datastore, **names)
        self.counts: dict[str, int] = {}

    def count(self, post_id: str, tracking: Tracking) -> None:
        self.insert_tracking(tracking)
        self.counts[post_id] = self.counts.get(post_id, 0) + 1


class TestFactory(library.InfrastructureFactoryTestCase[PlazaFactory]):
    # An autouse fixture runs before `setUp`, which needs the environment.
    @pytest.fixture(autouse=True)
    def database(self, postgres_url: str) -> None:
        values = {"PERSISTENCE_MODULE": "infra.adapters.log.plaza_recorder"}
        self.env = Environment("test", {**environment(postgres_url), **values})

    def expected_factory_class(self) -> type[PlazaFactory]:
        return PlazaFactory

    def expected_aggregate_recorder_class(self) -> type[AggregateRecorder]:
        return PostgresAggregateRecorder

    def expected_application_recorder_class(self) -> type[ApplicationRecorder]:
        return PlazaRecorder

    def expected_tracking_recorder_class(self) -> type[TrackingRecorder]:
        return PostgresTrackingRecorder

    def tracking_recorder_subclass(self) -> type[TrackingRecorder]:
        return Likes

    def expected_process_recorder_class(self) -> type[ProcessRecorder]:
        return PostgresProcessRecorder


def like(post_id: str, member_id: str, version: int = 1) -> Recorded:
    return Recorded(
        stream=f"like:{post_id}:{member_id}",
        version=version,
        recorded_at=NOON,
        event=PostLiked(post_id=post_id, author_id="ann", member_id=member_id),
        correlation_id="request",
    )


@pytest.fixture
async def log_url(postgres_url: str) -> str:
    """A database whose log holds three likes, appended by the group-commit writer."""
    await migrate(postgres_url)
    log = await PostgresEventLog.open(postgres_url)
    for liked in (like("mug", "bob"), like("mug", "cid"), like("cup", "bob")):
        await log.append([liked])
    await log.close()
    return postgres_url


class AnalystsLog(Application[str]):
    """What an analyst writes who has the library and our mapper."""

    name = "analysis"

    def construct_mapper(self) -> Mapper[str]:
        return LogMapper(self.construct_transcoder())


ANALYST = {
    "PERSISTENCE_MODULE": "eventsourcing.postgres",
    "APPLICATION_RECORDER_TOPIC": "infra.adapters.log.plaza_recorder:PlazaRecorder",
    "POSTGRES_SCHEMA": "log",
    "ORIGINATOR_ID_TYPE": "text",
}


def test_the_plain_library_opens_the_log_and_reads_its_sections(log_url: str) -> None:
    with AnalystsLog({**ANALYST, **environment(log_url)}) as log:
        section = log.notification_log["1,10"]
        assert [item.topic for item in section.items] == ["like.added.v1"] * 3
        assert [item.originator_id for item in log.notification_log.select(2, 10)] == [
            "like:mug:cid",
            "like:cup:bob",
        ]
        assert list(log.events.get("like:mug:bob")) == [LoggedEvent(like("mug", "bob"))]


def test_the_plain_recorder_of_the_library_reads_the_table(log_url: str) -> None:
    with datastore(log_url, schema="log", originator_id_type="text") as store:
        recorder = PostgresApplicationRecorder(store, events_table_name="events")
        assert recorder.max_notification_id() == 3
        assert len(recorder.select_notifications(1, 10)) == 3


class CountLikes(Projection[Likes]):
    name = "likes"
    topics = ("like.added.v1",)

    def process_event(self, domain_event: DomainEventProtocol[str], tracking: Tracking) -> None:
        assert isinstance(domain_event, LoggedEvent)
        event = domain_event.recorded.event
        assert isinstance(event, PostLiked)
        self.view.count(event.post_id, tracking)


async def test_a_projection_of_the_library_follows_what_we_append(log_url: str) -> None:
    env = {**PlazaLog.env, "CREATE_TABLE": "yes", **environment(log_url)}

    def follow() -> dict[str, int]:
        with ProjectionRunner(
            application_class=PlazaLog, projection_class=CountLikes, view_class=Likes, env=env
        ) as runner:
            asyncio.run_coroutine_threadsafe(append_one_more(log_url), loop).result(10)
            runner.wait(4, timeout=10)
            return runner.view.counts

    loop = asyncio.get_running_loop()
    assert await asyncio.to_thread(follow) == {"mug": 2, "cup": 2}


async def append_one_more(postgres_url: str) -> None:
    log = await PostgresEventLog.open(postgres_url)
    await log.append([like("cup", "cid")])
    await log.close()


async def test_what_the_library_saves_is_an_event_of_the_log(log_url: str) -> None:
    def save() -> int:
        with PlazaLog(environment(log_url)) as application:
            return application.save(LoggedEvent(like("pot", "bob")))[0].notification.id

    log = await PostgresEventLog.open(log_url)
    woken = asyncio.create_task(log.wait(after=3, seconds=10))
    position = await asyncio.to_thread(save)
    assert await woken
    assert [event.position for event in await log.load("like:pot:bob")] == [position]
    await log.close()


def test_a_version_that_somebody_else_took_is_refused(log_url: str) -> None:
    with PlazaLog(environment(log_url)) as application, pytest.raises(IntegrityError):
        application.save(LoggedEvent(like("mug", "bob")))


def test_a_commit_whose_answer_was_lost_is_looked_up(
    log_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.adapters.log.plaza_recorder.RETRY_SECONDS", 0.0)
    insert_once = PostgresApplicationRecorder.insert_events
    lost: list[bool] = []

    def commit_and_lose_the_answer(recorder: PlazaRecorder, *args: Any, **kwargs: Any) -> Any:
        positions = insert_once(recorder, *args, **kwargs)
        if not lost:
            lost.append(True)
            raise OperationalError("the connection was lost")
        return positions

    monkeypatch.setattr("infra.adapters.log.plaza_recorder.insert_once", commit_and_lose_the_answer)
    with PlazaLog(environment(log_url)) as application:
        stored = LogMapper(application.construct_transcoder()).to_stored_event(
            LoggedEvent(like("pan", "bob"))
        )
        assert application.recorder.insert_events([stored]) == [4]
        with pytest.raises(IntegrityError):
            application.recorder.insert_events([stored])
    assert lost


def test_the_librarys_stored_functions_are_refused(postgres_url: str) -> None:
    with (
        datastore(postgres_url, enable_db_functions=True) as store,
        pytest.raises(ProgrammingError, match="miss events"),
    ):
        PlazaRecorder(store)


async def test_recorder_and_writer_take_the_same_lock(log_url: str) -> None:
    """Whoever holds the recorder's lock keeps the writer from appending, and gives way in time."""
    log = await PostgresEventLog.open(log_url)
    with psycopg.connect(log_url) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(%s)", [7_881_702_245_169])
        appending = asyncio.create_task(log.append([like("tea", "bob")]))
        await asyncio.sleep(0.3)
        assert not appending.done()
        holder.rollback()
    async with asyncio.timeout(60):
        assert await appending == [4]
    await log.close()
