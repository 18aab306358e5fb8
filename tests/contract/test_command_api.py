"""What a client of the command service may rely on."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from httpx import Headers

from infra.adapters.log.memory_event_log import MemoryEventLog
from infra.formats.codec import open_event
from infra.http.rate_limits import Limit
from infra.ports.log import LogUnavailable, Recorded, StoredAnswer
from tests.contract.command_service import (
    PASSWORD,
    Member,
    Service,
    assert_problem,
    pointers,
)
from tests.waiting import until

REGISTRATION = {"username": "ada", "password": PASSWORD, "displayName": "Ada"}
UNKNOWN_ID = "0d1kq3h8o2c7a"


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def ada(service: Service) -> Member:
    return await service.sign_up("ada")


@pytest.fixture
async def bob(service: Service) -> Member:
    return await service.sign_up("bob")


# Accounts and sessions


async def test_signing_up_answers_the_new_user(service: Service) -> None:
    answer = await service.client.post("/api/users", json=REGISTRATION)
    assert answer.status_code == 201
    assert answer.headers["log-position"] == "2"
    body = answer.json()
    assert (body["username"], body["createdAt"]) == ("ada", "2026-01-01T12:00:00Z")
    assert set(body) == {"userId", "username", "createdAt"}
    assert await service.events() == ["UsernameClaimed", "MemberRegistered"]


async def test_a_taken_username_is_a_conflict_and_leaves_no_key(
    service: Service, ada: Member
) -> None:
    before = await service.events()
    answer = await service.client.post("/api/users", json=REGISTRATION)
    assert_problem(answer, 409, "username-taken")
    assert await service.events() == before
    assert list(service.credentials.hashes) == [ada.id]


async def test_two_who_want_one_name_at_once_get_it_once(service: Service) -> None:
    asked = [service.client.post("/api/users", json=REGISTRATION) for _ in range(5)]
    answers = await asyncio.gather(*asked)
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]


async def test_logging_in_answers_a_token_that_ends_in_thirty_days(
    service: Service, ada: Member
) -> None:
    answer = await service.client.post(
        "/api/sessions", json={"username": "ada", "password": PASSWORD}
    )
    assert answer.status_code == 201
    assert answer.json()["userId"] == ada.id
    assert answer.json()["expiresAt"] == "2026-01-31T12:00:00Z"
    service.pass_time(days=29, hours=23)
    assert (await ada.send("POST", "/api/posts", json={"content": "x"})).status_code == 201
    service.pass_time(hours=1)
    assert_problem(await ada.send("POST", "/api/posts", json={}), 401, "unauthenticated")


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("name", ["ada", "nobody"])
async def test_a_wrong_password_and_an_unknown_name_are_told_apart_by_nothing(
    service: Service, name: str
) -> None:
    service.passwords.verified = 0
    answer = await service.client.post(
        "/api/sessions", json={"username": name, "password": "wrong password"}
    )
    problem = assert_problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert problem["detail"] == "There is no member with this name and password."
    assert service.passwords.verified == 1


async def test_a_burst_of_wrong_passwords_is_stopped_for_that_name_only(
    service: Service, ada: Member, bob: Member
) -> None:
    wrong = {"username": "ada", "password": "wrong password"}
    tried = [(await service.client.post("/api/sessions", json=wrong)) for _ in range(11)]
    assert [answer.status_code for answer in tried] == [401] * 10 + [429]
    assert int(tried[-1].headers["retry-after"]) == 60
    right = {"username": "ada", "password": PASSWORD}
    refused = await service.client.post("/api/sessions", json=right)
    assert_problem(refused, 429, "too-many-requests")
    await bob.log_in()
    service.pass_time(seconds=61)
    await ada.log_in()


async def test_a_hash_of_other_parameters_is_made_again_at_the_next_log_in(
    service: Service, ada: Member
) -> None:
    service.passwords.today = "2:"
    await ada.log_in()
    assert service.credentials.hashes[ada.id] == f"2:{PASSWORD}"


async def test_logging_out_ends_the_session_and_no_other(ada: Member) -> None:
    first = ada.token
    await ada.log_in()
    ended = await ada.send("DELETE", "/api/sessions/current")
    assert (ended.status_code, ended.content) == (204, b"")
    assert_problem(await ada.send("POST", "/api/posts", json={}), 401, "unauthenticated")
    ada.token = first
    assert await ada.post()


async def test_an_ended_session_stays_ended_in_a_process_that_knows_only_the_log(
    service: Service, ada: Member
) -> None:
    await ada.send("DELETE", "/api/sessions/current")
    service.start()
    answer = await ada.send("POST", "/api/posts", json={"content": "x"})
    assert_problem(answer, 401, "unauthenticated")


async def test_sessions_survive_a_restart(service: Service, ada: Member) -> None:
    service.start()
    assert await ada.post()


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer x", "Basic YTpi", "Bearer " + "A" * 50, "Bearer " + "é" * 50]
)
async def test_without_a_good_token_a_command_is_refused(service: Service, header: str) -> None:
    headers = {b"Authorization": header.encode()} if header else {}
    answer = await service.client.post("/api/posts", json={"content": "x"}, headers=headers)
    assert_problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert await service.events() == []


async def test_a_changed_profile_is_told_back(service: Service, ada: Member) -> None:
    answer = await ada.send("PATCH", "/api/users/me", json={"bio": "Counts."})
    assert (answer.status_code, answer.json()) == (200, {"userId": ada.id, "bio": "Counts."})
    assert (await service.events())[-1] == "ProfileChanged"


async def test_changing_nothing_records_nothing(service: Service, ada: Member) -> None:
    before = await service.events()
    answer = await ada.send("PATCH", "/api/users/me", json={})
    assert (answer.status_code, answer.json()) == (200, {"userId": ada.id})
    assert await service.events() == before


async def test_erasing_an_account_ends_it_at_once(service: Service, ada: Member) -> None:
    wrong = await ada.send("DELETE", "/api/users/me", json={"password": "wrong password"})
    assert_problem(wrong, 403, "wrong-password")
    answer = await ada.send("DELETE", "/api/users/me", json={"password": PASSWORD})
    assert answer.status_code == 202
    assert (await service.events())[-2:] == ["MemberErased", "UsernameReleased"]
    assert_problem(await ada.send("POST", "/api/posts", json={}), 401, "unauthenticated")
    service.start()
    assert_problem(await ada.send("POST", "/api/posts", json={}), 401, "unauthenticated")
    again = await service.client.post("/api/users", json=REGISTRATION)
    assert again.status_code == 201


# Posts


async def test_publishing_answers_id_author_and_time(service: Service, ada: Member) -> None:
    answer = await ada.send("POST", "/api/posts", json={"content": "Hello"})
    assert answer.status_code == 201
    assert set(answer.json()) == {"postId", "authorId", "createdAt"}
    assert answer.json()["authorId"] == ada.id
    newest = (await service.log.read(0, 1000))[-1]
    assert answer.headers["log-position"] == str(newest.position)
    assert newest.correlation_id == answer.headers["x-request-id"]


async def test_all_members_of_a_post_are_recorded(service: Service, ada: Member) -> None:
    parent = await ada.post()
    await ada.post(
        "é😀" * 250,
        mediaUrls=[f"https://media.test/{n}.png" for n in range(4)],
        productIds=[UNKNOWN_ID],
        replyTo=parent,
        quoteOf=parent,
    )
    event: Any = (await service.log.read(0, 1000))[-1].event
    media_urls = open_event(event, service.keyring).media_urls.value
    assert media_urls == tuple(f"https://media.test/{n}.png" for n in range(4))
    assert (event.reply_to.post_id, event.quote_of.post_id) == (parent, parent)
    assert event.continues_thread


NO_IDS = ["nope", "", "x" * 5000, "\0", UNKNOWN_ID.upper() + "V", "v" * 13]


@pytest.mark.parametrize("member", ["replyTo", "quoteOf"])
@pytest.mark.parametrize("post_id", [UNKNOWN_ID, *NO_IDS])
async def test_answering_or_quoting_an_unknown_post_is_refused(
    service: Service, ada: Member, member: str, post_id: str
) -> None:
    before = await service.events()
    answer = await ada.send("POST", "/api/posts", json={"content": "x", member: post_id})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert await service.events() == before


@pytest.mark.parametrize("product_id", NO_IDS)
async def test_what_is_no_id_names_no_product(
    service: Service, ada: Member, product_id: str
) -> None:
    before = await service.events()
    named = [UNKNOWN_ID, product_id]
    answer = await ada.send("POST", "/api/posts", json={"content": "x", "productIds": named})
    assert_problem(answer, 404, "not-found")
    assert pointers(answer) == ["/productIds/1"]
    assert await service.events() == before


async def test_deleting_a_post_is_the_authors_alone_and_can_be_repeated(
    service: Service, ada: Member, bob: Member
) -> None:
    post_id = await ada.post()
    refused = await bob.send("DELETE", f"/api/posts/{post_id}")
    assert_problem(refused, 403, "not-the-author")
    first = await ada.send("DELETE", f"/api/posts/{post_id}")
    again = await ada.send("DELETE", f"/api/posts/{post_id}")
    assert (first.status_code, again.status_code) == (204, 204)
    assert first.headers["log-position"] == again.headers["log-position"]
    assert (await service.events()).count("PostDeleted") == 1
    liked = await bob.send("POST", f"/api/posts/{post_id}/like")
    assert_problem(liked, 404, "post-unknown")


@pytest.mark.parametrize(("what", "holds"), [("like", "liked"), ("repost", "reposted")])
async def test_engaging_twice_is_once_and_taking_back_twice_too(
    service: Service, ada: Member, bob: Member, what: str, holds: str
) -> None:
    post_id = await ada.post()
    before = len(await service.events())
    path = f"/api/posts/{post_id}/{what}"
    answers = [await bob.send(method, path) for method in ("POST", "POST", "DELETE", "DELETE")]
    assert [answer.json() for answer in answers] == [{holds: True}] * 2 + [{holds: False}] * 2
    places = [answer.headers["log-position"] for answer in answers]
    assert places[0] == places[1]
    assert places[2] == places[3]
    assert len(await service.events()) == before + 2


# Relations


@pytest.mark.parametrize(
    ("what", "answer"),
    [
        ("follow", ("following", "followeeId")),
        ("block", ("blocking", "userId")),
        ("mute", ("muting", "userId")),
    ],
)
async def test_relating_twice_is_once_and_ending_it_twice_too(
    service: Service, ada: Member, bob: Member, what: str, answer: tuple[str, str]
) -> None:
    before = len(await service.events())
    path = f"/api/users/{bob.id}/{what}"
    answers = [await ada.send(method, path) for method in ("POST", "POST", "DELETE", "DELETE")]
    holds, whom = answer
    expected = [{holds: flag, whom: bob.id} for flag in (True, True, False, False)]
    assert [one.json() for one in answers] == expected
    assert [one.status_code for one in answers] == [200] * 4
    assert len(await service.events()) == before + 2


async def test_a_block_ends_follows_and_forbids_new_ones(
    service: Service, ada: Member, bob: Member
) -> None:
    await ada.send("POST", f"/api/users/{bob.id}/follow")
    await bob.send("POST", f"/api/users/{ada.id}/block")
    assert (await service.events())[-2:] == ["Unfollowed", "Blocked"]
    refused = await ada.send("POST", f"/api/users/{bob.id}/follow")
    assert_problem(refused, 403, "across-block")
    post_id = await bob.post()
    assert_problem(await ada.send("POST", f"/api/posts/{post_id}/like"), 403, "across-block")


@pytest.mark.parametrize("what", ["follow", "block", "mute"])
@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize("user_id", [UNKNOWN_ID, "nope", "%00", "x" * 3000])
async def test_relating_to_an_unknown_member_is_not_found(
    service: Service, ada: Member, what: str, method: str, user_id: str
) -> None:
    before = await service.events()
    answer = await ada.send(method, f"/api/users/{user_id}/{what}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert await service.events() == before


async def test_nobody_follows_themselves(ada: Member) -> None:
    answer = await ada.send("POST", f"/api/users/{ada.id}/follow")
    assert_problem(answer, 422, "invalid-request")


# Bad input

SIGN_UP = ("POST", "/api/users", REGISTRATION)
NOTHING: dict[str, Any] = {}
CHANGE = ("PATCH", "/api/users/me", NOTHING)
PUBLISH = ("POST", "/api/posts", {"content": "x"})
TEXT_FIELDS = [
    (SIGN_UP, "username", 30),
    (SIGN_UP, "password", 1000),
    (SIGN_UP, "displayName", 100),
    (SIGN_UP, "bio", 500),
    (SIGN_UP, "email", 254),
    (CHANGE, "displayName", 100),
    (CHANGE, "bio", 500),
    (CHANGE, "avatarUrl", 1000),
    (PUBLISH, "content", 500),
]
BAD = {
    "a number": 7,
    "a list": ["x"],
    "an object": {"x": 1},
    "a flag": True,
    "NUL": "ab\0cdefghij",
    "a lone surrogate": "abc\ud800defgh",
}


@pytest.mark.parametrize("bad", [*BAD, "one over the limit"])
@pytest.mark.parametrize(("request_", "name", "most"), TEXT_FIELDS)
async def test_a_bad_text_is_refused_where_it_stands(
    ada: Member, request_: tuple[str, str, dict[str, Any]], name: str, most: int, bad: str
) -> None:
    method, path, body = request_
    before = await ada.service.events()
    value = "a" * (most + 1) if bad == "one over the limit" else BAD[bad]
    answer = await ada.send(method, path, content=json.dumps({**body, name: value}))
    assert_problem(answer, 422, "invalid-request")
    assert pointers(answer) == [f"/{name}"]
    assert await ada.service.events() == before


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/content"),
        ({"content": ""}, "/content"),
        ({"content": None}, "/content"),
        ({"content": "x", "mediaUrls": ["https://a.test/"] * 5}, "/mediaUrls"),
        ({"content": "x", "mediaUrls": ["https://a.test/", "http://a.test/"]}, "/mediaUrls/1"),
        ({"content": "x", "mediaUrls": "https://a.test/"}, "/mediaUrls"),
        ({"content": "x", "mediaUrls": ["https://a.test/\0"]}, "/mediaUrls/0"),
        ({"content": "x", "productIds": [UNKNOWN_ID] * 6}, "/productIds"),
        ({"content": "x", "productIds": [7]}, "/productIds/0"),
        ({"content": "x", "replyTo": 7}, "/replyTo"),
        ({"content": "x", "a~b/c": 1}, "/a~0b~1c"),
        ([], ""),
        ("x", ""),
        (None, ""),
    ],
)
async def test_a_bad_post_is_refused_where_it_stands(
    service: Service, ada: Member, body: Any, pointer: str
) -> None:
    before = await service.events()
    answer = await ada.send("POST", "/api/posts", content=json.dumps(body))
    assert_problem(answer, 422, "invalid-request")
    assert pointers(answer) == [pointer]
    assert await service.events() == before


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"content":"x"} x',
        b'{"content":"\xff"}',
        b'{"content":[[',
        b'{"content":"\xed\xa0\x80"}',
        b'{"content":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"x":' + b'{"x":' * 100_000 + b"1" + b"}" * 100_001,
        b'{"content":"x","content":"y"}',
        b'{"content":"x","\\u0063ontent":"x"}',
    ],
    ids=range(10),
)
async def test_a_body_that_is_not_json_is_malformed(
    service: Service, ada: Member, body: bytes
) -> None:
    before = await service.events()
    answer = await ada.send("POST", "/api/posts", content=body)
    assert_problem(answer, 400, "malformed-request")
    assert await service.events() == before


async def test_a_body_of_ten_megabytes_is_too_large(ada: Member) -> None:
    async def chunks() -> Any:
        for _ in range(10):
            yield b"x" * 1_000_000

    answer = await ada.send("POST", "/api/posts", content=b"x" * 10_000_000)
    assert_problem(answer, 413, "too-large")
    answer = await ada.send("POST", "/api/posts", content=chunks())
    assert_problem(answer, 413, "too-large")


@pytest.mark.parametrize("host", [[], [("host", "plaza"), ("host", "plaza")]], ids=["none", "two"])
async def test_a_request_that_does_not_name_its_host_once_is_refused(
    service: Service, host: list[tuple[str, str]]
) -> None:
    request = service.client.build_request("GET", "/health/live")
    assert (await service.client.send(request)).status_code == 200
    del request.headers["host"]
    request.headers = Headers([*request.headers.multi_items(), *host])
    assert_problem(await service.client.send(request), 400, "malformed-request")


async def test_an_unknown_address_and_an_unknown_method_are_problems(service: Service) -> None:
    assert_problem(await service.client.get("/api/nothing"), 404, "not-found")
    assert_problem(await service.client.post("/api/posts/"), 404, "not-found")
    answer = await service.client.get(f"/api/users/{UNKNOWN_ID}/follow")
    assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "DELETE, POST"


# Idempotency


async def test_a_repeated_key_is_answered_again_and_done_once(
    service: Service, ada: Member
) -> None:
    first = await ada.send("POST", "/api/posts", "k1", json={"content": "Hello"})
    before = await service.events()
    service.start()
    service.pass_time(hours=1)
    again = await ada.send("POST", "/api/posts", "k1", json={"content": "Hello"})
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert first.headers["log-position"] == again.headers["log-position"]
    assert await service.events() == before


async def test_a_key_used_for_something_else_is_refused(ada: Member) -> None:
    post_id = (await ada.send("POST", "/api/posts", "k1", json={"content": "a"})).json()["postId"]
    other_body = await ada.send("POST", "/api/posts", "k1", json={"content": "b"})
    assert_problem(other_body, 422, "invalid-request")
    other_path = await ada.send("POST", f"/api/posts/{post_id}/like", "k1")
    assert_problem(other_path, 422, "invalid-request")


async def test_keys_of_two_members_are_two_spaces(ada: Member, bob: Member) -> None:
    one = await ada.send("POST", "/api/posts", "k1", json={"content": "Hello"})
    other = await bob.send("POST", "/api/posts", "k1", json={"content": "Good bye"})
    assert one.json()["postId"] != other.json()["postId"]


async def test_the_same_request_under_way_is_a_conflict_to_retry() -> None:
    class SlowLog(MemoryEventLog):
        may_append = asyncio.Event()
        waiting = False

        async def append(
            self, events: Sequence[Recorded], answer: StoredAnswer | None = None
        ) -> Sequence[int]:
            self.waiting = not self.may_append.is_set()
            await self.may_append.wait()
            return await super().append(events, answer)

    log = SlowLog()
    log.may_append.set()
    slow = Service(log=log)
    ada = await slow.sign_up()
    log.may_append.clear()
    first = asyncio.create_task(ada.send("POST", "/api/posts", "k1", json={"content": "x"}))
    await until(lambda: log.waiting)
    second = await ada.send("POST", "/api/posts", "k1", json={"content": "x"})
    assert_problem(second, 409, "request-in-flight")
    assert int(second.headers["retry-after"]) >= 1
    log.may_append.set()
    done = await first
    third = await ada.send("POST", "/api/posts", "k1", json={"content": "x"})
    assert third.json() == done.json()


async def test_two_processes_asked_the_same_at_once_do_it_once(service: Service) -> None:
    ada = await service.sign_up()
    other = Service(log=service.log, keyring=service.keyring, credentials=service.credentials)
    elsewhere = Member(other, ada.username, ada.id, ada.token)
    answers = await asyncio.gather(
        *(one.send("POST", "/api/posts", "k1", json={"content": "x"}) for one in (ada, elsewhere))
    )
    assert answers[0].json() == answers[1].json()
    assert (await service.events()).count("PostPublished") == 1


async def test_a_refusal_of_the_domain_is_kept_under_its_key(ada: Member, bob: Member) -> None:
    await bob.send("POST", f"/api/users/{ada.id}/block")
    refused = await ada.send("POST", f"/api/users/{bob.id}/follow", "k1")
    await bob.send("DELETE", f"/api/users/{ada.id}/block")
    again = await ada.send("POST", f"/api/users/{bob.id}/follow", "k1")
    assert_problem(again, 403, "across-block")
    assert again.json() == refused.json()
    assert (await ada.send("POST", f"/api/users/{bob.id}/follow", "k2")).status_code == 200


async def test_an_invalid_request_does_not_use_up_its_key(ada: Member) -> None:
    assert (await ada.send("POST", "/api/posts", "k1", json={"content": ""})).status_code == 422
    assert (await ada.send("POST", "/api/posts", "k1", json={"content": "x"})).status_code == 201


async def test_signing_up_and_logging_in_repeat_without_storing_what_is_secret(
    service: Service,
) -> None:
    headers = {"Idempotency-Key": "k1"}
    client = service.client
    first = await client.post("/api/users", json=REGISTRATION, headers=headers)
    again = await client.post("/api/users", json=REGISTRATION, headers=headers)
    assert first.status_code == 201
    assert first.json() == again.json()
    log_in = {"username": "ada", "password": PASSWORD}
    headers = {"Idempotency-Key": "k2"}
    one = await client.post("/api/sessions", json=log_in, headers=headers)
    two = await client.post("/api/sessions", json=log_in, headers=headers)
    assert one.json() == two.json()
    for key in ("k1", "k2"):
        stored = await service.log.answer("anybody", key)
        assert stored is not None
        for secret in (b'"ada"', PASSWORD.encode(), one.json()["token"].encode()):
            assert secret not in stored.body + stored.body_hash


@pytest.mark.parametrize("key", ["x" * 129, "tab\there", "\x7f", " "])
async def test_a_key_that_is_too_long_or_odd_is_refused(
    service: Service, ada: Member, key: str
) -> None:
    before = await service.events()
    answer = await ada.send("POST", "/api/posts", key, json={"content": "x"})
    assert_problem(answer, 422, "invalid-request")
    assert await service.events() == before


# Limits, failures, headers


async def test_too_many_posts_are_stopped_exactly_and_for_that_member_only() -> None:
    service = Service(limits={"POST /api/posts": Limit(per_minute=6, burst=3)})
    ada, bob = await service.sign_up(), await service.sign_up()
    asked = [ada.send("POST", "/api/posts", json={"content": "x"}) for _ in range(10)]
    answers = await asyncio.gather(*asked)
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [201] * 3 + [429] * 7
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert_problem(refused, 429, "too-many-requests")
    assert refused.headers["retry-after"] == "10"
    await bob.post()
    service.pass_time(seconds=10)
    await ada.post()


async def test_without_limits_nothing_is_limited() -> None:
    service = Service(limits=None)
    ada = await service.sign_up()
    for _ in range(700):
        await ada.post()


async def test_while_the_log_is_away_commands_are_unavailable() -> None:
    class AwayLog(MemoryEventLog):
        away = False

        async def append(
            self, events: Sequence[Recorded], answer: StoredAnswer | None = None
        ) -> Sequence[int]:
            if self.away:
                raise LogUnavailable
            return await super().append(events, answer)

        async def head(self) -> int:
            if self.away:
                raise LogUnavailable
            return await super().head()

    log = AwayLog()
    service = Service(log=log)
    ada = await service.sign_up()
    log.away = True
    answer = await ada.send("POST", "/api/posts", "k1", json={"content": "x"})
    assert_problem(answer, 503, "unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    ready = await service.client.get("/health/ready")
    assert_problem(ready, 503, "unavailable")
    log.away = False
    assert (await ada.send("POST", "/api/posts", "k1", json={"content": "x"})).status_code == 201
    assert (await service.client.get("/health/ready")).json() == {"status": "ok"}


async def test_what_nobody_foresaw_is_a_problem_that_tells_nothing() -> None:
    class BrokenLog(MemoryEventLog):
        async def load_many(self, streams: Iterable[str]) -> Mapping[str, Sequence[Recorded]]:
            raise ZeroDivisionError(f"secret detail of {streams}")

    service = Service(log=BrokenLog())
    answer = await service.client.post("/api/users", json=REGISTRATION)
    assert_problem(answer, 500, "internal")
    assert "secret detail" not in answer.text


async def test_a_request_id_goes_in_the_events_and_comes_back(
    service: Service, ada: Member
) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    for headers, expected in [
        ({"X-Request-Id": "abc-1"}, "abc-1"),
        ({"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}, trace),
    ]:
        answer = await ada.send("POST", "/api/posts", json={"content": "x"}, headers=headers)
        assert answer.headers["x-request-id"] == expected
        assert (await service.log.read(0, 1000))[-1].correlation_id == expected
    odd = await ada.send("POST", "/api/posts", json={}, headers={"X-Request-Id": "a b"})
    assert odd.headers["x-request-id"] != "a b"


async def test_pages_of_this_machine_may_call_and_others_may_not(service: Service) -> None:
    asks = {"Access-Control-Request-Method": "POST"}
    near = await service.client.options(
        "/api/posts", headers={"Origin": "http://localhost:3000", **asks}
    )
    assert near.status_code == 204
    assert near.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert "Idempotency-Key" in near.headers["access-control-allow-headers"]
    far = await service.client.options(
        "/api/posts", headers={"Origin": "https://evil.test", **asks}
    )
    assert "access-control-allow-origin" not in far.headers


async def test_metrics_count_requests_by_route_and_status(service: Service, ada: Member) -> None:
    post_id = await ada.post()
    await ada.send("DELETE", f"/api/posts/{post_id}")
    await service.client.get("/made/up/by/a/client")
    text = (await service.client.get("/metrics")).text
    counted = 'plaza_http_request_seconds_count{method="%s",route="%s",status="%s"} 1.0'
    assert counted % ("POST", "/api/posts", "201") in text
    assert counted % ("DELETE", "/api/posts/{postId}", "204") in text
    assert counted % ("any", "unmatched", "404") in text
    assert "plaza_append_seconds_count" in text
