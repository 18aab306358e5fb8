"""How far each half of Plaza has been applied, as its own pages and those that show both wait."""

import time

from infra.http.consistency import WAIT_SECONDS, Applied
from infra.ports.commerce_reads import CommerceReads
from infra.ports.reads import ReadsUnavailable

PRODUCTS_SECONDS = 0.5
"""So long a page that also shows products waits for them."""

IMPATIENT_SECONDS = 10.0
"""So long pages do without, once that was in vain."""


class AppliedHere(Applied):
    """How far the commerce half has been applied. Where nothing happened in it since, it is as far
    as anybody may ask."""

    def __init__(self, reads: CommerceReads) -> None:
        super().__init__()
        self.reads = reads

    async def wait(self, position: int, seconds: float = WAIT_SECONDS) -> bool:
        if position <= self.position or not await self.reads.happened(self.position, position):
            return True
        return await super().wait(position, seconds)


class AppliedBeside(Applied):
    """How far the social half has been applied, for pages that show products too.

    These wait for products a moment longer; where that was in vain they do without for a while,
    since either half serves while the other is down.
    """

    def __init__(self, social: Applied, products: Applied) -> None:
        super().__init__()
        self._social = social
        self._products = products
        self._impatient_until = 0.0

    @property
    def position(self) -> int:
        if time.monotonic() < self._impatient_until:
            return self._social.position
        return min(self._social.position, self._products.position)

    async def wait(self, position: int, seconds: float = WAIT_SECONDS) -> bool:
        if not await self._social.wait(position, seconds):
            return False
        if time.monotonic() >= self._impatient_until and not await self._shown(position):
            self._impatient_until = time.monotonic() + IMPATIENT_SECONDS
        return True

    async def _shown(self, position: int) -> bool:
        try:
            return await self._products.wait(position, PRODUCTS_SECONDS)
        except ReadsUnavailable:
            return False
