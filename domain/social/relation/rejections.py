"""Why a command between two members may be refused."""

from dataclasses import dataclass

from domain.shared.rejection import Forbidden


@dataclass(eq=False)
class AcrossBlock(Forbidden):
    """It does not say who blocks whom."""

    title = "One of you blocks the other"
    member_id: str
