"""Places of clients: rows of arrays for client numbers in the order in which they are first seen, up to a most."""

from __future__ import annotations

from typing import Final

import numpy as np

_LARGEST_ID: Final = 2**31 - 1
_TOLD_APART: Final = 1 << 20  # of the clients that share a place, to say how many they are


class ClientPlaces:
    """The first `most` clients have a place each, counted from 0; all later ones share the next.

    merged: how many clients share it, counted up to about a million.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._numbers, self._places = np.empty(0, np.int64), np.empty(0, np.int64)  # by ascending number
        self._sharing = np.empty(0, np.int64)

    @property
    def merged(self) -> int:
        """Clients in the shared place."""
        return len(self._sharing)

    @property
    def size(self) -> int:
        """Places taken."""
        return len(self._numbers) + (self.merged > 0)

    def places(self, client_ids: np.ndarray) -> np.ndarray:
        """The place of each row's client; clients not seen before take theirs."""
        known, first, inverse = np.unique(client_ids, return_index=True, return_inverse=True)
        is_new = ~np.isin(known, self._numbers)
        self._take(known[is_new][np.argsort(first[is_new])])
        at = np.searchsorted(self._numbers, known)
        at = np.minimum(at, max(len(self._numbers) - 1, 0))
        return np.where(self._numbers[at] == known, self._places[at], self.most)[inverse] if len(known) else inverse

    def numbers(self) -> np.ndarray:
        """The client number of each place; the shared one gets a number that no client with a place of its own has."""
        numbers = np.empty(len(self._numbers), np.int64)
        numbers[self._places] = self._numbers
        if not self.merged:
            return numbers
        largest = int(numbers.max())
        free = largest + 1 if largest < _LARGEST_ID else int(np.setdiff1d(np.arange(len(numbers) + 1), numbers)[0])
        return np.append(numbers, free)

    def _take(self, numbers: np.ndarray) -> None:
        room = self.most - len(self._numbers)
        own, rest = numbers[:room], numbers[room:]
        places = np.concatenate((self._places, len(self._places) + np.arange(len(own))))
        everyone = np.concatenate((self._numbers, own))
        order = np.argsort(everyone)
        self._numbers, self._places = everyone[order], places[order]
        if len(rest) and len(self._sharing) < _TOLD_APART:
            self._sharing = np.union1d(self._sharing, rest)
