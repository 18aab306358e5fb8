"""Ids that bodies of requests name.

To clients ids are opaque. So what is no id at all is unknown like any other that names nothing: a
404 that says where in the body it stands.
"""

from typing import Annotated

from msgspec import Meta

from domain.shared.identifiers import id_number
from infra.http.problems import FieldError, Problem, not_found

NamedId = Annotated[
    str, Meta(description="an id; 404 where it names nothing", examples=["0d1kq3h8o2c7a"])
]


def require_id(text: str, what: str, pointer: str) -> None:
    """Raises a 404 problem for what is not even an id."""
    try:
        id_number(text)
    except ValueError:
        raise unknown(what, pointer) from None


def unknown(what: str, pointer: str) -> Problem:
    problem = not_found(what)
    problem.errors.append(FieldError(problem.detail, pointer=pointer))
    return problem
