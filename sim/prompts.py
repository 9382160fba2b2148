"""Requests made from STREAM rows and the tables of their segments and items."""

from collections.abc import Iterable
from functools import cached_property

import numpy as np

from sim.engine import FullEngine
from sim.prompt import PRIVATE, BlockKeys, Item
from sim.request import Request
from workloads.segments import check_segments
from workloads.stream import ITEMS, SEGMENTS, STREAM, out_segment


class Prompts:
    """The SEGMENTS and ITEMS of a stream (None for none), into which its rows point, as an engine needs them."""

    def __init__(self, engine: FullEngine, segments: np.ndarray | None, items: np.ndarray | None):
        self.engine = engine
        segments = np.empty(0, SEGMENTS) if segments is None else segments
        items = np.empty(0, ITEMS) if items is None else items
        self.tables = segments, items

    @cached_property
    def _segments(self) -> list[tuple[int, int]]:
        return self.tables[0][["segment_id", "tokens"]].tolist()

    @cached_property
    def _items(self) -> list[Item]:
        return [Item(*item) for item in self.tables[1][["offset", "tokens", "item_id"]].tolist()]

    @property
    def are_named(self) -> bool:
        """Whether any prompt says what it is made of."""
        return bool(len(self.tables[0]) or len(self.tables[1]))

    def check(self, windows: Iterable[np.ndarray]) -> None:
        """WorkloadError for rows whose segments or items cannot be: unknown answers, wrong sums, items in one place."""
        check_segments(np.concatenate([np.empty(0, STREAM), *windows]), *self.tables)

    def fit_encoder(self, row: tuple) -> bool:
        """Whether every item of a STREAM row can be encoded in one iteration and kept."""
        engine = self.engine
        most = min(engine.max_num_encoder_input_tokens, engine.encoder_cache_size)
        return not engine.encoder_cache_size or all(item.tokens <= most for item in self._items[row[12] : row[12] + row[13]])

    def request(self, row: tuple) -> Request:
        """The request of a STREAM row, with what the caches of the engine need to know of its prompt."""
        engine, keys = self.engine, None
        if engine.enable_prefix_caching:
            segments = self._segments[row[10] : row[10] + row[11]] or [(PRIVATE + row[1], row[6])]
            keys = BlockKeys(segments, out_segment(row[1]), engine.block_size)
        items = self._items[row[12] : row[12] + row[13]] if engine.encoder_cache_size else ()
        return Request(row, engine.max_model_len, keys, items)
