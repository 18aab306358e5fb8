"""Why a shop command may be refused."""

from dataclasses import dataclass

from domain.shared.rejection import Conflict, Forbidden


@dataclass(eq=False)
class ShopAlreadyOpen(Conflict):
    title = "A member has one shop at most"
    shop_id: str


class NotASeller(Forbidden):
    """Raised where a member without a shop asks for what only sellers may do."""

    title = "Only a member with a shop may do this"
