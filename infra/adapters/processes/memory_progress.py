"""How far processes have got, in memory: the reference of `Progress`."""

from collections import defaultdict
from collections.abc import Mapping

from infra.ports.processes import Parked, Settled


class MemoryProgress:
    def __init__(self) -> None:
        self._checkpoints: defaultdict[str, dict[int, int]] = defaultdict(dict)
        self.parked: dict[tuple[str, int], Parked] = {}
        self.settled: dict[tuple[str, int], tuple[Settled, str, str]] = {}

    async def checkpoints(self, process: str) -> Mapping[int, int]:
        return dict(self._checkpoints[process])

    async def advance(self, process: str, positions: Mapping[int, int]) -> None:
        known = self._checkpoints[process]
        for partition, position in positions.items():
            known[partition] = max(position, known.get(partition, 0))

    async def park(self, process: str, parked: Parked) -> None:
        self.parked.setdefault((process, parked.position), parked)

    async def settle(
        self, process: str, position: int, status: Settled, *, error: str = "", why: str = ""
    ) -> None:
        self.settled[process, position] = (status, error, why)
