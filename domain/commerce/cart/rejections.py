"""Why a cart command may be refused."""

from dataclasses import dataclass
from typing import Any

from domain.shared.rejection import Conflict


class CartEmpty(Conflict):
    title = "There is nothing in the cart"


class CartChanged(Conflict):
    """It changed between being read and being checked out: look again."""

    title = "The cart has changed in the meantime"


@dataclass(eq=False)
class CartHasProblems(Conflict):
    """Each problem is accepted, or its item removed, before the cart can be checked out."""

    title = "The cart has open problems"
    problems: list[dict[str, Any]]
