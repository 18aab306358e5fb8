"""Why a cart command may be refused."""

from domain.shared.rejection import Conflict


class CartEmpty(Conflict):
    title = "There is nothing in the cart"


class CartChanged(Conflict):
    """It changed between being read and being checked out: look again."""

    title = "The cart has changed in the meantime"
