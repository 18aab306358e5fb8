"""A projection as the eventsourcing library runs it: an event and its tracking in a transaction."""

import time
from typing import Any
from urllib.parse import urlsplit

import psycopg
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg.sql import SQL

EVENTS = 2_000
PER_AGGREGATE = 200
WAIT_SECONDS = 120.0


class Account(Aggregate):
    @event("Registered")
    def __init__(self) -> None:
        self.followers = 0

    @event("Followed")
    def follow(self, follower: str) -> None:
        del follower
        self.followers += 1


class Follows(Application[Any]):
    pass


class FollowerCounts(PostgresTrackingRecorder):
    """A count a member: the least that any of our tables keeps."""

    def __init__(self, datastore: Any, **kwargs: Any) -> None:
        super().__init__(datastore, **kwargs)
        self.sql_create_statements.append(
            SQL(
                "CREATE TABLE IF NOT EXISTS follower_counts"
                " (member text PRIMARY KEY, followers bigint)"
            ).format()
        )

    def count(self, member: str, tracking: Tracking) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            cursor.execute(
                "INSERT INTO follower_counts VALUES (%s, 1) ON CONFLICT (member)"
                " DO UPDATE SET followers = follower_counts.followers + 1",
                (member,),
            )


class CountFollowers(Projection[FollowerCounts]):
    name = "follower_counts"

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        self.view.count(str(domain_event.originator_id), tracking)


def environment(url: str) -> dict[str, str]:
    parts = urlsplit(url)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": parts.path.lstrip("/"),
        "POSTGRES_HOST": parts.hostname or "",
        "POSTGRES_PORT": str(parts.port),
        "POSTGRES_USER": parts.username or "",
        "POSTGRES_PASSWORD": parts.password or "",
        "POSTGRES_SCHEMA": "public",
    }


def fill_library(url: str) -> None:
    app = Follows(env=environment(url))
    for _ in range(EVENTS // PER_AGGREGATE):
        account = Account()
        for number in range(PER_AGGREGATE - 1):
            account.follow(follower=str(number))
        app.save(account)
    app.close()


def library_rate(url: str) -> float:
    """Events per second of the library's runner, from the first event to the last."""
    with psycopg.connect(url) as connection:
        connection.execute("DROP TABLE IF EXISTS follower_counts, follower_counts_tracking")
    started = time.perf_counter()
    with ProjectionRunner(
        application_class=Follows,
        projection_class=CountFollowers,
        view_class=FollowerCounts,
        env=environment(url),
    ) as runner:
        runner.wait(EVENTS, timeout=WAIT_SECONDS)
    return EVENTS / (time.perf_counter() - started)
