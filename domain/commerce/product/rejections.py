"""Why a product command may be refused."""

from dataclasses import dataclass

from domain.shared.rejection import Conflict, Forbidden, NotFound


@dataclass(eq=False)
class ProductUnknown(NotFound):
    title = "There is no such product"
    product_id: str


@dataclass(eq=False)
class NotTheSeller(Forbidden):
    title = "Only its seller may change a product"
    product_id: str


@dataclass(eq=False)
class ProductIdTaken(Conflict):
    """Two ids were made alike, and its maker tries again; or an import repeats itself."""

    title = "The product id is in use"
    product_id: str
