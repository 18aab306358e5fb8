"""The OpenAPI 3.1 document of a service, made from the structs that its endpoints decode and send.

An endpoint says what it does in an `Operation`; `document` collects those of all routes. An
endpoint without one is left out, and `undescribed` names it, so that a test can refuse it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from starlette.routing import BaseRoute, Route

from infra.http.problems import MEDIA_TYPE, ProblemDocument

VERSION = "3.1.0"
REFERENCE = "#/components/schemas/{name}"
BEARER = "session"

REASONS = {
    400: "The request is not JSON",
    401: "There is no session, or none that holds",
    403: "The caller may not do this",
    404: "There is no such thing",
    409: "Not in the present state, or the same request is in flight",
    413: "The body is too large",
    422: "A value is outside of what is allowed",
    429: "Too many requests",
    500: "Something broke on our side",
    503: "A dependency is down, or behind the Log-Position asked for",
}
RETRIED = {409, 429, 503}

E = TypeVar("E")


class AnyOf(tuple[Any, ...]):
    """Several structs of which a body is one."""

    __slots__ = ()


@dataclass(frozen=True)
class Parameter:
    """A parameter of the query string, the path or the headers; `type` is what msgspec reads."""

    name: str
    type: Any
    description: str
    where: str = "query"
    required: bool = False
    example: Any = None


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What one endpoint takes and answers.

    `answers` maps each success status to the struct of its body, None for no body.
    `refusals` are the statuses of its problem documents. `login` is `required`, `optional` or
    `none`. `headers` name those of a successful answer.
    """

    summary: str
    tag: str
    answers: Mapping[int, Any]
    description: str = ""
    body: Any = None
    body_example: Any = None
    answer_example: Any = None
    parameters: Sequence[Parameter] = ()
    refusals: Sequence[int] = ()
    login: str = "required"
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"


def described(operation: Operation) -> Callable[[E], E]:
    """Say what an endpoint function does: `@described(Operation(…))`."""

    def mark(endpoint: E) -> E:
        endpoint.operation = operation  # type: ignore[attr-defined]
        return endpoint

    return mark


def operation_of(endpoint: Any) -> Operation | None:
    found = getattr(endpoint, "operation", None)
    return found if isinstance(found, Operation) else None


def undescribed(routes: Iterable[BaseRoute]) -> list[str]:
    """The paths of the endpoints that say nothing about themselves."""
    return [
        route.path
        for route in routes
        if isinstance(route, Route) and route.include_in_schema and not operation_of(route.endpoint)
    ]


def document(title: str, version: str, routes: Iterable[BaseRoute], about: str = "") -> bytes:
    """The OpenAPI document of these routes, as JSON."""
    found = [
        (route, method, operation)
        for route in routes
        if isinstance(route, Route)
        and route.include_in_schema
        and (operation := operation_of(route.endpoint))
        for method in sorted((route.methods or set()) - {"HEAD"})
    ]
    schemas, components = _schemas(operation for _, _, operation in found)
    paths: dict[str, dict[str, Any]] = {}
    for route, method, operation in found:
        entry = _operation(route, method, operation, schemas)
        paths.setdefault(route.path_format, {})[method.lower()] = entry
    return msgspec.json.encode(
        {
            "openapi": VERSION,
            "info": {"title": title, "version": version, "description": about},
            "servers": [{"url": "/"}],
            "tags": [{"name": name} for name in sorted({o.tag for _, _, o in found})],
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {BEARER: {"type": "http", "scheme": "bearer"}},
                "responses": {_problem_name(status): _problem(status) for status in REASONS},
            },
        }
    )


def _schemas(operations: Iterable[Operation]) -> tuple[Callable[[Any], Any], dict[str, Any]]:
    """How each type that occurs is written in the document, and the named schemas."""
    types: list[Any] = [ProblemDocument]
    for operation in operations:
        for kind in operation.answers.values():
            types += kind if isinstance(kind, AnyOf) else [kind] if kind is not None else []
        types += [parameter.type for parameter in operation.parameters]
        types += [operation.body] if operation.body is not None else []
    written, components = msgspec.json.schema_components(types, ref_template=REFERENCE)
    pairs = list(zip(types, written, strict=True))

    def schema_of(kind: Any) -> Any:
        if isinstance(kind, AnyOf):
            return {"anyOf": [schema_of(one) for one in kind]}
        return next(schema for known, schema in pairs if known is kind or known == kind)

    return schema_of, components


def _operation(
    route: Route, method: str, operation: Operation, schema_of: Callable[[Any], Any]
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "summary": operation.summary,
        "description": operation.description,
        "tags": [operation.tag],
        "operationId": _operation_id(method, route.path_format),
        "parameters": [_parameter(p, schema_of) for p in operation.parameters],
        "responses": {
            str(status): _answer(operation, status, kind, schema_of)
            for status, kind in operation.answers.items()
        }
        | {
            str(status): {"$ref": f"#/components/responses/{_problem_name(status)}"}
            for status in sorted({*operation.refusals, 500})
        },
    }
    # An empty requirement beside the scheme says that it may be left out.
    entry["security"] = {
        "required": [{BEARER: []}],
        "optional": [{}, {BEARER: []}],
        "none": [],
    }[operation.login]
    if operation.body is not None:
        content: dict[str, Any] = {"schema": schema_of(operation.body)}
        if operation.body_example is not None:
            content["example"] = operation.body_example
        entry["requestBody"] = {"required": True, "content": {"application/json": content}}
    return entry


def _answer(
    operation: Operation, status: int, kind: Any, schema_of: Callable[[Any], Any]
) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": operation.summary}
    if operation.headers:
        answer["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in operation.headers.items()
        }
    if kind is not None:
        content: dict[str, Any] = {"schema": schema_of(kind)}
        if operation.answer_example is not None:
            content["example"] = operation.answer_example
        answer["content"] = {operation.media_type: content}
    elif status != 204 and operation.media_type != "application/json":
        answer["content"] = {operation.media_type: {"schema": {"type": "string"}}}
    return answer


def _parameter(parameter: Parameter, schema_of: Callable[[Any], Any]) -> dict[str, Any]:
    written: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.required or parameter.where == "path",
        "description": parameter.description,
        "schema": schema_of(parameter.type),
    }
    if parameter.example is not None:
        written["example"] = parameter.example
    return written


def _problem(status: int) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": REASONS[status],
        "content": {MEDIA_TYPE: {"schema": {"$ref": REFERENCE.format(name="ProblemDocument")}}},
    }
    if status in RETRIED:
        seconds = {"type": "integer", "minimum": 0}
        answer["headers"] = {"Retry-After": {"description": "Seconds to wait", "schema": seconds}}
    return answer


def _problem_name(status: int) -> str:
    return f"Problem{status}"


def _operation_id(method: str, path: str) -> str:
    words = [word.strip("{}") for word in path.split("/") if word and word != "api"]
    return "_".join([method.lower(), *words]).replace("-", "_")
