"""What a composed request has besides its arrival and two lengths: items, tokens that think, a limit, correlated lengths.

All are functions of (seed, client, sequence number) and the client's tables, drawn after the rows are there, block by
block: pools that have none of it are not slowed down. A prompt of items is laid out as images, audio, video, then text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np

from workloads.errors import WorkloadError
from workloads.fields import REASON, count_of, meant, modalities, tokens_of
from workloads.numerics import Purpose, formulas, normal_cdf, normal_quantile, stream_keys, uniforms
from workloads.players import Composition
from workloads.stream import ITEMS, MAX_SEGMENT_ID, MAX_TOKENS, MODALITIES, NS_PER_S, SEGMENTS, STREAM
from workloads.thinking import thinking_tokens

# Work of the encoder for one token of the prompt. Image and video: 2 x 2 patches are merged into a token (Qwen2-VL, arXiv
# 2409.12191, section 2.1). Audio: two frames are pooled (Qwen2-Audio, arXiv 2407.10759, section 2).
UNITS_PER_TOKEN: Final = {"image": 4, "audio": 2, "video": 4}
LIBRARY: Final = 64  # items that a client sends again and again, in a 6 h block
MOST_ITEMS: Final = 1 << 12  # of one modality in a request
_SEQUENCE: Final = (1 << 32) - 1


class Detailed(NamedTuple):
    """STREAM rows of a block, and the ITEMS and SEGMENTS that they add to the stream's tables."""

    rows: np.ndarray
    items: np.ndarray
    segments: np.ndarray


class Details:
    """Fills the rows of a composition, block after block in their order; the first block is empty, so that there is one."""

    def __init__(self, composition: Composition) -> None:
        self._of, pool = composition, composition.pool
        self._client_ids = pool.client_ids[composition.clients]
        self._modalities = modalities(pool.lengths)
        self._limits = _client_limits(composition) if composition.model.max_tokens == "client" else None
        self._keys: dict[tuple[Purpose, int], np.ndarray] = {}

    @property
    def are_any(self) -> bool:
        """Whether there is anything to fill in."""
        model = self._of.model
        return self.has_items or REASON in self._of.pool.lengths or model.correlation != 0.0 or model.max_tokens != "pool"

    @property
    def has_items(self) -> bool:
        """Whether prompts hold images, audio or video."""
        return bool(self._modalities)

    @property
    def has_segments(self) -> bool:
        """Whether prompts may share items."""
        return self.has_items and self._of.model.repeated_items > 0.0

    def filled(self, blocks: Iterable[np.ndarray]) -> Iterator[Detailed]:
        """The blocks with all that the rows have; rows are written to in place."""
        model, items_before, segments_before = self._of.model, 0, 0
        yield Detailed(np.empty(0, STREAM), np.empty(0, ITEMS), np.empty(0, SEGMENTS))
        for rows in blocks:
            who = self._drawn_from(rows)
            if model.correlation != 0.0:
                rows["output_tokens"] = self._correlated(who)
            self._limit(rows, who)
            if REASON in self._of.pool.lengths:
                u = self._uniforms(Purpose.REASON, who, who.sequence)
                rows["reason_tokens"] = thinking_tokens(self._of.pool, who.row, rows["output_tokens"], u)
            items, segments = (
                self._filled_with_items(rows, who) if self.has_items else (np.empty(0, ITEMS), np.empty(0, SEGMENTS))
            )
            rows["items_start"] += items_before
            rows["segments_start"] += segments_before
            items_before, segments_before = items_before + len(items), segments_before + len(segments)
            yield Detailed(rows, items, segments)

    def _filled_with_items(self, rows: np.ndarray, who: _Who) -> tuple[np.ndarray, np.ndarray]:
        """The ITEMS and SEGMENTS of a block, into which its rows' slices point; prompts are as much longer."""
        owner, items = self._items(rows, who)
        count, text = np.bincount(owner, minlength=len(rows)), rows["input_tokens"].copy()
        prompt = text.astype(np.int64)
        np.add.at(prompt, owner, items["tokens"])
        if prompt.max(initial=0) > MAX_TOKENS:
            raise WorkloadError(f"pool {self._of.pool.name}: a prompt of {prompt.max()} tokens, expected at most {MAX_TOKENS}")
        rows["input_tokens"], rows["items_count"], rows["items_start"] = prompt, count, np.cumsum(count) - count
        if not self.has_segments:
            return items, np.empty(0, SEGMENTS)
        rows["segments_count"], rows["segments_start"] = count + 1, np.cumsum(count + 1) - (count + 1)
        return items, _segments(rows, owner, items, text)

    def _drawn_from(self, rows: np.ndarray) -> _Who:
        of, start_ns = self._of, round(self._of.start_s * NS_PER_S)
        client = np.searchsorted(self._client_ids, rows["client_id"])
        row = of.pool.rows_at(of.clients[client], rows["arrival_ns"] + start_ns)
        return _Who(client, rows["request_id"] & _SEQUENCE, row)

    def _uniforms(self, purpose: Purpose, who: _Who, index: np.ndarray, part: int = 0) -> np.ndarray:
        """Entry `index` of the clients' sequences for a purpose, one for each of its parts (modalities)."""
        if (purpose, part) not in self._keys:
            keys = stream_keys(self._of.seed, self._client_ids, purpose)
            self._keys[purpose, part] = (
                keys if part == 0 else formulas.mix(keys + np.array([part], np.uint64) * formulas.GOLDEN)
            )
        return uniforms(self._keys[purpose, part][who.client], index)

    def _correlated(self, who: _Who) -> np.ndarray:
        """Answers whose rank goes with the prompt's: Pearson's r of the normals is 2 sin(π ρ/6) for Spearman's ρ."""
        pearson = _pearson(self._of.model.correlation)
        z = pearson * normal_quantile(self._uniforms(Purpose.INPUT, who, who.sequence))
        z = z + np.sqrt(1.0 - pearson * pearson) * normal_quantile(self._uniforms(Purpose.OUTPUT, who, who.sequence))
        u = np.minimum(np.maximum(normal_cdf(z), 2.0**-53), 1.0 - 2.0**-53)
        return self._of.pool.lengths["output_tokens"].sample(who.row, u)

    def _limit(self, rows: np.ndarray, who: _Who) -> None:
        wanted = self._of.model.max_tokens
        if isinstance(wanted, int):
            rows["max_tokens"] = wanted
            np.minimum(rows["output_tokens"], wanted, out=rows["output_tokens"])
        elif wanted == "output":
            rows["max_tokens"] = rows["output_tokens"]
        elif self._limits is not None:
            rows["max_tokens"] = np.maximum(self._limits[who.client], rows["output_tokens"])

    def _items(self, rows: np.ndarray, who: _Who) -> tuple[np.ndarray, np.ndarray]:
        """For each item in the order of rows, the row that owns it, and its ITEMS."""
        parts = [self._of_modality(who, modality) for modality in self._modalities]
        owner = np.concatenate([owner for owner, _ in parts])
        items = np.concatenate([items for _, items in parts])
        order = np.argsort(owner, kind="stable")
        owner, items = owner[order], items[order]
        end = np.cumsum(items["tokens"], dtype=np.int64)
        begin = end - items["tokens"]
        first = np.searchsorted(owner, np.arange(len(rows)))
        items["offset"] = begin - begin[first[owner]] if len(items) else 0
        return owner, items

    def _of_modality(self, who: _Who, modality: str) -> tuple[np.ndarray, np.ndarray]:
        """(owner, ITEMS) of one modality; an item of the client's library has the library's tokens, in each 6 h block anew."""
        pool, part = self._of.pool, MODALITIES.index(modality)
        name = count_of(modality)
        counts = meant(name, pool.lengths[name].sample(who.row, self._uniforms(Purpose.COUNT, who, who.sequence, part)))
        if counts.max(initial=0) >= MOST_ITEMS:
            raise WorkloadError(f"pool {pool.name}: a request with {counts.max()} items, expected fewer than {MOST_ITEMS}")
        owner = np.repeat(np.arange(len(counts)), counts)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        of = _Who(who.client[owner], who.sequence[owner], who.row[owner])
        index = of.sequence * MOST_ITEMS + number
        again = self._uniforms(Purpose.REPEAT, of, 2 * index, part) < self._of.model.repeated_items
        place = self._uniforms(Purpose.REPEAT, of, 2 * index + 1, part)
        # Entries of the library lie beyond those of requests; a squared uniform makes its first ones the usual ones.
        index = np.where(
            again, (1 << 50) + of.row.astype(np.int64) * LIBRARY + (LIBRARY * place * place).astype(np.int64), index
        )
        items = np.zeros(len(owner), ITEMS)
        items["modality"] = part
        items["tokens"] = pool.lengths[tokens_of(modality)].sample(of.row, self._uniforms(Purpose.ITEM, of, index, part))
        items["encoder_units"] = items["tokens"].astype(np.int64) * UNITS_PER_TOKEN[modality]
        items["item_id"] = self._identity(of, index, part)
        return owner, items

    def _identity(self, who: _Who, index: np.ndarray, part: int) -> np.ndarray:
        name = np.uint64(part) + (self._client_ids[who.client].astype(np.uint64) << np.uint64(8))
        hashed = formulas.mix(formulas.mix(name + formulas.GOLDEN) ^ index.astype(np.uint64) * formulas.GOLDEN)
        return (hashed >> np.uint64(2)).astype(np.int64)


class _Who(NamedTuple):
    """Whose draws: index of the client, sequence number and row in the tables, an array each."""

    client: np.ndarray
    sequence: np.ndarray
    row: np.ndarray


def _segments(rows: np.ndarray, owner: np.ndarray, items: np.ndarray, text: np.ndarray) -> np.ndarray:
    """The pieces of every prompt: its items by identity, then its own text."""
    place = np.arange(len(items)) + owner
    segments = np.empty(len(items) + len(rows), SEGMENTS)
    segments["segment_id"][place], segments["tokens"][place] = items["item_id"], items["tokens"]
    last = np.searchsorted(owner, np.arange(len(rows)), side="right") + np.arange(len(rows))
    own = formulas.mix(rows["request_id"].astype(np.uint64) * formulas.GOLDEN) >> np.uint64(2)
    segments["segment_id"][last], segments["tokens"][last] = own.astype(np.int64) & MAX_SEGMENT_ID, text
    return segments


def _client_limits(of: Composition) -> np.ndarray:
    """The least power of two that is not below any answer of a client."""
    longest = np.floor(of.pool.lengths["output_tokens"].knots.max(axis=1)).astype(np.int64)
    rows = of.pool.length_row[of.clients]
    most = np.where(rows >= 0, longest[rows], 1).max(axis=1)
    return np.array([1 << (int(tokens) - 1).bit_length() for tokens in most])


def _pearson(spearman: float) -> float:
    """2 sin(π ρ / 6) by its Taylor series, whose bits are the same everywhere (Kruskal 1958)."""
    x = 3.141592653589793 * spearman / 6.0
    term, total = x, x
    for k in range(1, 12):
        term = -term * x * x / ((2 * k) * (2 * k + 1))
        total += term
    return min(max(2.0 * total, -1.0), 1.0)
