"""The audit of what is served: nothing is found where nothing is wrong, one unit where it is."""

import asyncio
from datetime import UTC, datetime

import psycopg
import pytest
from prometheus_client import CollectorRegistry

from domain.commerce.stock.events import StockReceived, StockReserved
from domain.events import AnyEvent
from domain.shared.identifiers import id_text
from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.migrations import migrate
from infra.adapters.tables.maintenance import PostgresMaintenance
from infra.composition.services import auditing
from infra.composition.services.auditing import SLICES, Slices, Streams, keeping_up
from infra.composition.settings import Settings
from infra.ports.frames import COMMERCE_PARTITIONS
from infra.ports.log import Recorded
from infra.runtime.frames.embedded import EmbeddedRunner
from infra.runtime.rebuilding.audit import AGAIN_EVERY, Audit, Budget, Drift, Looked
from projections import availability, graph
from tests.integration.tables import contents, projector
from tests.integration.test_rebuild import append_more
from tests.integration.test_verify import served

PRODUCTS = 120
AT_ONCE = Budget(1.0)


async def stocked(url: str) -> None:
    """Products with units received and held, and the tables that show how many are left."""
    await migrate(url)
    log = await PostgresEventLog.open(url)
    for number in range(1, PRODUCTS + 1):
        product = id_text(number)
        events: list[AnyEvent] = [
            StockReceived(product_id=product, quantity=10, reference="first"),
            StockReserved(
                product_id=product,
                quantity=number % 7 + 1,
                reservation_id="r",
                expires_at=datetime.now(UTC),
            ),
        ]
        await log.append(
            [
                Recorded(
                    stream=f"stock:{product}",
                    version=version,
                    recorded_at=datetime.now(UTC),
                    event=event,
                )
                for version, event in enumerate(events, start=1)
            ]
        )
    async with projector(url, [availability.PROJECTION]) as target:
        await EmbeddedRunner(log, target, COMMERCE_PARTITIONS).run_to(await log.head())
    await log.close()


async def test_a_drift_of_one_unit_in_stock_is_found_and_mended(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditing, "KEYS_AT_ONCE", 50)
    await stocked(postgres_url)
    before = contents(postgres_url, [availability.PROJECTION])
    with psycopg.connect(postgres_url) as connection:
        connection.execute(
            "UPDATE availability_b1.availability SET available = available + 1"
            " WHERE product_id = 77"
        )
    for repair in ("off", "on"):
        settings = Settings(postgres_url=postgres_url, audit_repair=repair)
        streams = Streams(settings, availability.PROJECTION, availability.AVAILABILITY)
        registry = CollectorRegistry()
        audit = Audit([streams.look], AT_ONCE, registry)
        for _ in range(3):
            await audit.step()
        labels = {"projection": "availability"}
        assert registry.get_sample_value("plaza_audit_documents_total", labels) == PRODUCTS
        assert registry.get_sample_value("plaza_audit_drift_found_total", labels) == 1
        left = registry.get_sample_value("plaza_audit_drifting", labels)
        assert left == (1 if repair == "off" else 0)
    assert contents(postgres_url, [availability.PROJECTION]) == before


async def test_slices_cover_all_documents_while_traffic_goes_on(postgres_url: str) -> None:
    await served(postgres_url, 171)
    slices = Slices(Settings(postgres_url=postgres_url), graph.PROJECTION, AT_ONCE)
    log = await PostgresEventLog.open(postgres_url)
    async with projector(postgres_url, [graph.PROJECTION]) as target:
        running = asyncio.create_task(
            EmbeddedRunner(log, target, graph.PROJECTION.partitions).run()
        )
        writing = asyncio.create_task(append_more(log, 100))
        looks = [await slices.look() for _ in range(SLICES)]
        await writing
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    await log.close()
    found = [look for look in looks if look is not None]
    assert [drift for look in found for drift in look.drifts] == []
    documents = sum(look.documents for look in found)
    everything = contents(postgres_url, [graph.PROJECTION])
    assert documents >= sum(len(rows) for rows in everything.values()) - 400

    with psycopg.connect(postgres_url) as connection:
        row = connection.execute(
            "UPDATE graph_b1.member_counts SET followers = followers + 1 WHERE member_id ="
            " (SELECT max(member_id) FROM graph_b1.member_counts WHERE member_id < 10000000)"
            " RETURNING member_id"
        ).fetchone()
    assert row is not None
    looks = [await slices.look() for _ in range(SLICES)]
    drifts = [drift for look in looks if look is not None for drift in look.drifts]
    assert [(drift.place, drift.key) for drift in drifts] == [
        ("member_counts", f'member_id="{id_text(row[0])}"')
    ]


async def test_what_was_wrong_and_is_right_again_is_no_longer_told_of() -> None:
    drift = Drift("graph", "member_counts", "member_id=1", "3 of 16")
    wrong, registry = [True], CollectorRegistry()

    async def look(_known: Drift | None = None, /) -> Looked:
        return Looked("graph", 5, [drift] if wrong[0] else [], lambda known: known == drift)

    audit = Audit([look], AT_ONCE, registry)
    told = []
    for state in (True, True, False):
        wrong[0] = state
        await audit.step()
        told.append(registry.get_sample_value("plaza_audit_drifting", {"projection": "graph"}))
    assert told == [1, 1, 0]
    found = registry.get_sample_value("plaza_audit_drift_found_total", {"projection": "graph"})
    assert found == 1


async def test_a_repair_is_seen_long_before_all_else_has_been_looked_at(
    postgres_url: str,
) -> None:
    await served(postgres_url, 172)
    slices = Slices(Settings(postgres_url=postgres_url), graph.PROJECTION, AT_ONCE)
    registry = CollectorRegistry()
    audit = Audit([slices.look], AT_ONCE, registry)

    def drifting() -> float | None:
        return registry.get_sample_value("plaza_audit_drifting", {"projection": "graph"})

    def change(by: int) -> None:
        with psycopg.connect(postgres_url) as connection:
            connection.execute(
                "UPDATE graph_b1.member_counts SET followers = followers + %s WHERE member_id ="
                " (SELECT max(member_id) FROM graph_b1.member_counts WHERE member_id < 10000000)",
                [by],
            )

    change(1)
    while not drifting():
        await audit.step()
    change(-1)
    steps = 0
    while drifting():
        await audit.step()
        steps += 1
    assert steps <= AGAIN_EVERY < SLICES


def test_a_budget_of_two_percent_pauses_for_49_times_as_long() -> None:
    now = [10.0]
    budget = Budget(0.02, lambda: now[0])
    now[0] += 0.01
    assert round(budget.owed(), 6) == 0.49


async def test_old_answers_are_forgotten_and_new_ones_kept(postgres_url: str) -> None:
    await migrate(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        connection.execute(
            "INSERT INTO log.answers (member_id, key, body_hash, status, body, position,"
            " answered_at) SELECT 'm', n::text, '', 200, '', 1,"
            " now() - make_interval(days => CASE WHEN n <= 2500 THEN 8 ELSE 6 END)"
            " FROM generate_series(1, 2600) n"
        )
    settings = Settings(postgres_url=postgres_url)
    assert await PostgresMaintenance(postgres_url).forget_answers(7) == 1000
    registry = CollectorRegistry()
    await keeping_up(settings, registry).round(pause_seconds=0)
    with psycopg.connect(postgres_url) as connection:
        rows = connection.execute("SELECT count(*) FROM log.answers").fetchone()
    assert rows == (100,)
    removed = registry.get_sample_value("plaza_maintenance_removed_total", {"what": "answers"})
    assert removed == 1500
