"""How a family of kernels with aggregates keeps KV blocks: the functions in which such families differ."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Cache(NamedTuple):
    """Kernels that count, take and give back blocks; those that take them are called where so many are free."""

    needs: Callable[..., Any]
    """(me, world, most): what there is no room for where so many may be admitted; DONE if there is room for all."""

    find: Callable[..., Any]
    """(me, world, slot): how many blocks a waiting request finds cached, and how many of these nobody holds."""

    touch: Callable[..., Any]
    """(me, world, slot, hit): give a request the blocks it has just found."""

    grow: Callable[..., Any]
    """(me, world, slot, tokens): give a prompt, of which OFFSET tokens are computed, the blocks for so many in all."""

    take: Callable[..., Any]
    """(me, world, count): take blocks for decodes."""

    join: Callable[..., Any]
    """(me, world, slot): a request decodes from the next batch on."""

    give_back: Callable[..., Any]
    """(me, world, slot, held, keyed): a request gives back all its blocks, of which so many can be found from now on."""

    is_fixed: bool
    """Whether what a waiting request finds stays as it is while others decode."""
