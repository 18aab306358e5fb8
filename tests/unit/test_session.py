"""The rules of sessions, one sentence per test."""

from datetime import UTC, datetime, timedelta

from domain.social.session.commands import EndSession, StartSession
from domain.social.session.decider import SESSION
from domain.social.session.events import SessionEnded, SessionStarted
from domain.social.session.rejections import SessionIdTaken, SessionUnknown
from tests.unit.spec import Spec

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TOMORROW = NOON + timedelta(days=1)

START = StartSession(session_id="s1", member_id="m1", expires_at=TOMORROW)
STARTED = SessionStarted(session_id="s1", member_id="m1", expires_at=TOMORROW)
END = EndSession(session_id="s1")
ENDED = SessionEnded(session_id="s1", member_id="m1", expires_at=TOMORROW)

session = Spec(SESSION)


def test_a_session_starts_with_the_moment_at_which_it_runs_out() -> None:
    session.given().when(START, at=NOON).then(STARTED)


def test_a_session_id_is_used_once() -> None:
    session.given(STARTED).when(START, at=NOON).then_rejected(SessionIdTaken("s1"))
    session.given(STARTED, ENDED).when(START, at=NOON).then_rejected(SessionIdTaken("s1"))


def test_ending_a_session_tells_how_long_its_end_has_to_be_remembered() -> None:
    session.given(STARTED).when(END, at=NOON).then(ENDED)


def test_ending_a_session_again_records_nothing() -> None:
    session.given(STARTED, ENDED).when(END, at=NOON).then_nothing()


def test_a_session_that_has_run_out_need_not_be_ended() -> None:
    session.given(STARTED).when(END, at=TOMORROW).then_nothing()


def test_a_session_that_never_started_cannot_be_ended() -> None:
    session.given().when(END, at=NOON).then_rejected(SessionUnknown("s1"))
