"""The published contract is what the services do: requests made from it are answered as it says."""

import asyncio
import itertools
from dataclasses import dataclass
from typing import Any, cast

import jsonschema  # type: ignore[import-untyped]
import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from infra.http.idempotency import KEY_LENGTH_MAX, is_key
from infra.http.openapi import undescribed
from tests.contract.command_service import Member, Service

COMMANDS = {
    "POST /api/users",
    "PATCH /api/users/me",
    "DELETE /api/users/me",
    "POST /api/sessions",
    "DELETE /api/sessions/current",
    "POST /api/users/{userId}/follow",
    "DELETE /api/users/{userId}/follow",
    "POST /api/users/{userId}/block",
    "DELETE /api/users/{userId}/block",
    "POST /api/users/{userId}/mute",
    "DELETE /api/users/{userId}/mute",
    "POST /api/posts",
    "DELETE /api/posts/{postId}",
    "POST /api/posts/{postId}/like",
    "DELETE /api/posts/{postId}/like",
    "POST /api/posts/{postId}/repost",
    "DELETE /api/posts/{postId}/repost",
    "GET /health/live",
    "GET /health/ready",
    "GET /metrics",
}


Case = schemathesis.Case[Any]


@dataclass
class Served:
    """A running service under test, and somebody who is logged in to it."""

    service: Service
    member: Member

    def contract(self) -> dict[str, Any]:
        answer = asyncio.run(self.service.client.get("/openapi.json"))
        return cast(dict[str, Any], answer.json())


def serve_commands() -> Served:
    service = Service(limits=None)
    return Served(service, asyncio.run(service.sign_up("ada")))


# Made when the tests are collected: there is one for each operation of the contract.
COMMAND_SERVICE = serve_commands()
numbers = itertools.count()
commands = schemathesis.openapi.from_asgi("/openapi.json", COMMAND_SERVICE.service.app)


@pytest.fixture
def served() -> Served:
    return COMMAND_SERVICE


@pytest.mark.thorough
@commands.parametrize()
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_commands_are_answered_as_documented(case: Case, served: Served) -> None:
    # Each gets a session of its own, since one of the commands ends it; and a key of its own, since
    # one that was used with another request is rightly refused.
    asyncio.run(served.member.log_in())
    key = case.headers.get("Idempotency-Key")
    if isinstance(key, str) and is_key(key.encode(errors="replace")):
        case.headers["Idempotency-Key"] = f"{next(numbers)}-{key}"[:KEY_LENGTH_MAX].strip()
    case.call_and_validate(headers={"Authorization": f"Bearer {served.member.token}"})


def test_every_command_of_the_square_is_in_the_contract(served: Served) -> None:
    paths = served.contract()["paths"]
    found = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert found >= COMMANDS


def test_every_endpoint_describes_itself(served: Served) -> None:
    assert undescribed(served.service.app.routes) == []


def test_the_contract_names_its_own_problem_documents(served: Served) -> None:
    contract = served.contract()
    assert contract["openapi"].startswith("3.1")
    operations = [one for methods in contract["paths"].values() for one in methods.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    for operation in operations:
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                problem = contract["components"]["responses"][answer["$ref"].split("/")[-1]]
                assert list(problem["content"]) == ["application/problem+json"]


def test_paths_name_their_parts_as_members_are_named(served: Served) -> None:
    assert [path for path in served.contract()["paths"] if "_" in path] == []


def test_examples_of_bodies_are_valid_by_their_own_schemas(served: Served) -> None:
    contract = served.contract()
    bodies = [
        one["requestBody"]["content"]["application/json"]
        for methods in contract["paths"].values()
        for one in methods.values()
        if "requestBody" in one
    ]
    assert any("example" in body for body in bodies)
    for body in bodies:
        if "example" in body:
            schema = {**body["schema"], "components": contract["components"]}
            jsonschema.validate(body["example"], schema)


def test_the_page_of_the_contract_needs_nothing_from_elsewhere(served: Served) -> None:
    page = asyncio.run(served.service.client.get("/docs"))
    assert page.headers["content-type"].startswith("text/html")
    assert "//" not in page.text.replace("http://", "//").split("<script>")[0]
    assert "src=" not in page.text
