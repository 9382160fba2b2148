"""Streams to write, and a small valid file of every format to read and to break."""

import gzip
import io
import json

import numpy as np
from hypothesis import strategies as st

from workloads import ITEMS, SEGMENTS, Stream
from workloads.stream import new_rows
from workloads.traces import FORMATS

NS = 10**9


@st.composite
def streams(draw, most_ns=100 * NS, with_items=True):
    """Any stream that the own format holds: requests of clients and sessions, prompts that share pieces, items in them."""
    arrivals = sorted(draw(st.lists(st.integers(0, most_ns), min_size=1, max_size=15)))
    rows = new_rows(len(arrivals))
    rows["arrival_ns"], rows["request_id"] = arrivals, np.arange(len(rows)) * draw(st.integers(1, 3))
    for name, most in (("client_id", 3), ("session_id", 3), ("model", 2), ("priority", 2)):
        rows[name] = draw(st.lists(st.integers(0, most), min_size=len(rows), max_size=len(rows)))
    rows["turn"] = draw(st.integers(1, 3))
    for name in ("input_tokens", "output_tokens", "max_tokens"):
        rows[name] = draw(st.lists(st.integers(1, 2000), min_size=len(rows), max_size=len(rows)))
    rows["reason_tokens"] = rows["output_tokens"] // draw(st.sampled_from([2, 10**6]))
    segments = _shared_pieces(draw, rows) if draw(st.booleans()) else np.empty(0, SEGMENTS)
    items = _items(draw, rows) if with_items and draw(st.booleans()) else np.empty(0, ITEMS)
    return Stream(float(arrivals[-1] // NS + 1), lambda: (rows,), {"source": "test"}, segments, items)


def _shared_pieces(draw, rows):
    """SEGMENTS of prompts that are chains of six pieces with one length each, the last one cut."""
    lengths = [draw(st.sampled_from([16, 512]) | st.integers(1, 600)) for _ in range(6)]
    table = []
    for row in rows:
        chain = draw(st.lists(st.integers(0, 5), max_size=4))
        row["segments_start"], row["segments_count"] = (len(table), len(chain)) if chain else (0, 0)
        pieces = [(piece, lengths[piece]) for piece in chain]
        if pieces:
            pieces[-1] = (pieces[-1][0], draw(st.integers(1, pieces[-1][1])))
            row["input_tokens"] = sum(tokens for _, tokens in pieces)
        table += pieces
    return np.array(table, SEGMENTS)


def _items(draw, rows):
    table = []
    for row in rows:
        tokens = draw(st.integers(0, 3))
        count = min(draw(st.integers(0, 2)), int(row["input_tokens"]) // max(tokens, 1)) if tokens else 0
        row["items_start"], row["items_count"] = (len(table), count) if count else (0, 0)
        table += [(draw(st.integers(0, 2)), k * tokens, tokens, 7, draw(st.integers(0, 99))) for k in range(count)]
    return np.array(table, ITEMS)


def sample(format_name):
    """(file name, bytes) of a small valid file."""
    return _SAMPLES[format_name]()


def _csv_log(header, *lines):
    return ("log.csv", "\r\n".join([header, *lines]).encode())


def _json_lines(*requests):
    return ("trace.jsonl", "".join(json.dumps(request) + "\n" for request in requests).encode())


def _blocks(timestamps, block):
    lengths = (20, 700, 1025)
    return _json_lines(*(
        {"timestamp": at, "input_length": n, "output_length": 5, "hash_ids": list(range(-(-n // block)))}
        for at, n in zip(timestamps, lengths, strict=True)
    ))  # fmt: skip


def _parquet():
    import pyarrow
    from pyarrow import parquet

    table = {"arrival_s": [0.5, 1.25, 7.0], "input_tokens": [10, 30, 5], "output_tokens": [2, 4, 6], "request_id": [4, 2, 9]}
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(table), file)
    return ("own.parquet", file.getvalue())


def _qwen():
    chats = [(3, -1, 1), (5, 3, 2), (9, 5, 3)]
    return _json_lines(*(
        {"chat_id": chat, "parent_chat_id": parent, "timestamp": 0.5 * turn, "input_length": 40 * turn, "output_length": 4,
         "type": "text", "turn": turn, "hash_ids": list(range(-(-40 * turn // 16)))}
        for chat, parent, turn in chats
    ))  # fmt: skip


def _vllm_result():
    arrays = {"input_lens": [100, 200, 50], "output_lens": [3, 2, 0], "start_times": [10.0, 11.5, 10.5]}
    more = {"ttfts": [0.1, 0.2, 0.0], "itls": [[0.05, 0.07], [0.1], []], "errors": ["", "", "refused"]}
    return (
        "result.json",
        json.dumps({"backend": "vllm", "completed": 2, **arrays, **more, "queue_times": [0, 2.0, 0]}).encode(),
    )


_SAMPLES = {
    "azure": lambda: _csv_log(
        "TIMESTAMP,ContextTokens,GeneratedTokens",
        "2023-11-16 18:15:46.6805900,374,44",
        "2023-11-16 18:15:50.9951690,396,109",
        "2023-11-16 18:15:51.2224670,879,55",
    ),
    "burstgpt": lambda: _csv_log(
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type",
        "5,7,1.5,ChatGPT,472,18,490,Conversation log",
        "45.5,,2,GPT-4,1087,0,1087,API log",
        "118,7,2,GPT-4,417,276,693,Conversation log",
    ),
    "csv": lambda: ("own.csv", b"arrival_s,input_tokens,output_tokens,request_id\n0.5,10,20,4\n1.25,30,40,2\n7,5,6,9\n"),
    "mooncake": lambda: _blocks((0, 27, 3000), 512),
    "parquet": _parquet,
    "qwen": _qwen,
    "vllm-result": _vllm_result,
    "vllm-timed": lambda: _blocks((0.0, 0.25, 3.5), 16),
}
TEXT_FORMATS = sorted(set(_SAMPLES) - {"parquet"})
ALL_FORMATS = sorted(FORMATS)


def packed(data):
    return gzip.compress(data, mtime=0)
