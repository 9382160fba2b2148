"""Requests made from STREAM rows and the tables of their segments and items."""

import numpy as np

from sim.engine import FullEngine
from sim.prompt import PRIVATE, BlockKeys, Item
from sim.request import Request
from workloads.stream import out_segment


class Prompts:
    """The SEGMENTS and ITEMS of a stream (None for none), into which its rows point."""

    def __init__(self, segments: np.ndarray | None, items: np.ndarray | None):
        self._segments = [] if segments is None else segments[["segment_id", "tokens"]].tolist()
        self._items = [] if items is None else [Item(*item) for item in items[["offset", "tokens", "item_id"]].tolist()]
        self.engine = FullEngine()

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
