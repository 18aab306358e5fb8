"""The log for the plain eventsourcing library: a recorder, a mapper and an application.

    env = {"POSTGRES_DBNAME": …, "POSTGRES_HOST": …, "POSTGRES_USER": …, "POSTGRES_PASSWORD": …}
    for notification in PlazaLog(env).notification_log.select(start=1, limit=10):
        …

`PlazaRecorder` appends in turn with the group-commit writer, by the same lock. The functions that
the library can store in the database take no lock, and would let readers miss events.
"""

import time
from collections.abc import Sequence
from inspect import unwrap
from typing import Any, ClassVar, cast

from eventsourcing import postgres
from eventsourcing.application import Application
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import (
    IntegrityError,
    InterfaceError,
    Mapper,
    Notification,
    OperationalError,
    ProgrammingError,
    StoredEvent,
)
from msgspec import Struct
from psycopg.sql import SQL, Identifier, Literal

from domain.shared.message import tag_of
from infra.adapters.log.log_listener import CHANNEL
from infra.formats import codec
from infra.ports.log import Recorded

SCHEMA = "log"
TABLE = "events"
APPEND_LOCK = 7_881_702_245_169
"""The lock that `log.take_turn` takes."""

ATTEMPTS_MAX = 10
RETRY_SECONDS = 0.2
LOOK_SECONDS = 1.0

insert_once = unwrap(postgres.PostgresApplicationRecorder.insert_events)
"""The library's insertion without its retries, which could not tell our own rows from others'."""


class PlazaRecorder(postgres.PostgresApplicationRecorder):
    """Records in the table `events`, whatever the application is called."""

    def __init__(
        self, datastore: postgres.PostgresDatastore, *, events_table_name: str = TABLE
    ) -> None:
        del events_table_name
        if datastore.enable_db_functions:
            raise ProgrammingError("the library's database functions let readers miss events")
        super().__init__(datastore, events_table_name=TABLE)
        self.channel_name = CHANNEL
        del self.sql_create_statements[self.create_insert_function_statement_index]
        self.lock_table_statements = [
            SQL("SET LOCAL lock_timeout = '{}s'").format(Literal(datastore.lock_timeout)),
            SQL("SELECT pg_advisory_xact_lock({})").format(Literal(APPEND_LOCK)),
        ]
        self.own_event_statement = SQL(
            "SELECT notification_id FROM {}.{}"
            " WHERE originator_id = %s AND originator_version = %s AND topic = %s AND state = %s"
        ).format(Identifier(datastore.schema), Identifier(TABLE))

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> "PlazaSubscription":
        return PlazaSubscription(recorder=self, gt=gt, topics=topics)

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        """Insert all or none, and answer their positions.

        Raises `IntegrityError` if a version is taken by somebody else's event. After a lost
        connection it may be taken by ours, from the attempt whose outcome we were not told.
        """
        doubtful = False
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                return cast(Sequence[int] | None, insert_once(self, stored_events, **kwargs))
            except (InterfaceError, OperationalError):
                if attempt == ATTEMPTS_MAX:
                    raise
                doubtful = True
                time.sleep(RETRY_SECONDS)
            except IntegrityError:
                positions = self._own_positions(stored_events) if doubtful else None
                if positions is None:
                    raise
                return positions
        raise AssertionError("the last attempt returns or raises")

    def _own_positions(self, stored_events: Sequence[StoredEvent]) -> Sequence[int] | None:
        positions: list[int] = []
        with self.datastore.get_connection() as connection:
            for event in stored_events:
                row = connection.execute(
                    self.own_event_statement,
                    [event.originator_id, event.originator_version, event.topic, event.state],
                ).fetchone()
                if row is None:
                    return None
                positions.append(row["notification_id"])
        return positions


class PlazaSubscription(postgres.PostgresSubscription):
    """Looks for new events when it is told of some, and each `LOOK_SECONDS` besides.

    The library looks once and then begins to listen: of what is recorded in between it would hear
    only together with the next event, however long that takes.
    """

    def _loop_on_pull(self) -> None:
        try:
            while not self._has_been_stopped:
                self._pull()
                self._has_been_notified.wait(LOOK_SECONDS)
        except BaseException as error:
            # As the library tells its reader of what ended one of its threads.
            self._thread_error = self._thread_error or error
            self.stop()


class PlazaFactory(postgres.PostgresFactory):
    """Chosen by `PERSISTENCE_MODULE=infra.adapters.log.plaza_recorder`."""

    application_recorder_class = PlazaRecorder


class LoggedEvent(Struct, frozen=True):
    """A recorded event as the library wants to see it."""

    recorded: Recorded

    @property
    def originator_id(self) -> str:
        return self.recorded.stream

    @property
    def originator_version(self) -> int:
        return self.recorded.version


class LogMapper(Mapper[str]):
    """Between the library's stored events and ours. Personal texts stay sealed."""

    def to_stored_event(self, domain_event: DomainEventProtocol[str]) -> StoredEvent:
        recorded = cast(LoggedEvent, domain_event).recorded
        return StoredEvent(
            originator_id=recorded.stream,
            originator_version=recorded.version,
            topic=tag_of(type(recorded.event)),
            state=codec.encode_state(recorded),
        )

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[str]:
        position = stored_event.id if isinstance(stored_event, Notification) else 0
        stream, version = str(stored_event.originator_id), stored_event.originator_version
        recorded = codec.decode_state(position, stream, version, stored_event.state)
        return cast(DomainEventProtocol[str], LoggedEvent(recorded))


class PlazaLog(Application[str]):
    """The log as an application of the library, given only how to reach the database."""

    name = "plaza"
    env: ClassVar[dict[str, str]] = {
        "PERSISTENCE_MODULE": "infra.adapters.log.plaza_recorder",
        "POSTGRES_SCHEMA": SCHEMA,
        "ORIGINATOR_ID_TYPE": "text",
        "CREATE_TABLE": "no",
    }

    def construct_mapper(self) -> Mapper[str]:
        return LogMapper(self.construct_transcoder())
