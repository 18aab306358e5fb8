"""Ids for what a request creates. They need not be hard to guess: nothing is protected by one."""

from random import Random

from domain.shared.identifiers import RANDOM_BITS, make_id
from infra.ports.log import Clock

# Asking the kernel for chance costs more than all the rest of making an id.
_chance = Random().getrandbits


def new_id(clock: Clock) -> str:
    return make_id(int(clock().timestamp() * 1000), _chance(RANDOM_BITS))
