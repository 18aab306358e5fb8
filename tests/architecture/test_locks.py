"""Each advisory lock in PostgreSQL guards one thing: two that share a number hold each other up."""

import re
from pathlib import Path

from infra.adapters import migrations
from infra.adapters.log import plaza_recorder, relay_place
from infra.adapters.tables import projection_builds

LOG = Path(migrations.__file__).with_name("0001_log.sql")
NUMBER = re.compile(r"pg_advisory_xact_lock\((\d+)\)")


def test_what_must_not_wait_for_each_other_has_locks_of_its_own() -> None:
    builds = NUMBER.search(projection_builds.TURN)
    assert builds is not None
    locks = [migrations.LOCK, plaza_recorder.APPEND_LOCK, relay_place.LOCK, int(builds[1])]
    assert len(set(locks)) == len(locks)


def test_both_ways_of_appending_wait_for_each_other() -> None:
    taken = NUMBER.findall(LOG.read_text())
    assert [int(number) for number in taken] == [plaza_recorder.APPEND_LOCK]
