"""What prompts share: valid prompts pass, every law's breach is told with its row, and a twin in plain Python agrees."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads import ITEMS, SEGMENTS, Stream, WorkloadError, check_segments, check_stream, out_request, out_segment
from workloads.segments import segment_mistakes
from workloads.stream import MAX_SEGMENT_ID, MODALITIES, new_rows
from workloads.stream_file import load, save

NO_ITEMS = np.empty(0, ITEMS)
NO_SEGMENTS = np.empty(0, SEGMENTS)


def prompts(*chains, answers=4):
    """(rows, segments): a request a second, 0, 1, …; each chain a list of (segment_id, tokens), [] for private text."""
    rows = new_rows(len(chains))
    rows["request_id"] = np.arange(len(chains))
    rows["arrival_ns"] = np.arange(len(chains)) * 10**9
    rows["input_tokens"] = [sum(tokens for _, tokens in chain) or 7 for chain in chains]
    rows["output_tokens"] = rows["max_tokens"] = answers
    rows["segments_count"] = [len(chain) for chain in chains]
    rows["segments_start"] = np.cumsum(rows["segments_count"]) - rows["segments_count"]
    return rows, np.array([piece for chain in chains for piece in chain], SEGMENTS)


def with_items(*items, input_tokens=100):
    """(rows, items): one request of private text with these items (modality, offset, tokens, encoder_units, item_id)."""
    rows, _ = prompts([])
    rows["input_tokens"], rows["items_count"] = input_tokens, len(items)
    return rows, np.array(list(items), ITEMS)


def refusal(rows, segments=NO_SEGMENTS, items=NO_ITEMS):
    with pytest.raises(WorkloadError) as error:
        check_segments(rows, segments, items)
    return str(error.value)


@st.composite
def shared_prompts(draw):
    """Prompts as conversations have them: named pieces of one length each, earlier answers, the last one cut or not."""
    lengths = draw(st.lists(st.integers(1, 50), min_size=1, max_size=6))
    count, answers = draw(st.integers(1, 8)), draw(st.integers(1, 9))
    chains = []
    for request in range(count):
        known = list(enumerate(lengths)) + [(out_segment(earlier), answers) for earlier in range(request)]
        chain = draw(st.lists(st.sampled_from(known), max_size=6))
        if chain:
            chain[-1] = (chain[-1][0], draw(st.integers(1, chain[-1][1])))
        chains.append(chain)
    rows, segments = prompts(*chains, answers=answers)
    rows["arrival_ns"] = sorted(draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)))  # with ties
    return rows, segments


@given(st.integers(0, 2**62))
def test_the_name_of_an_answer_is_negative_and_gives_its_request_back(request_id):
    assert out_segment(request_id) < 0 and out_request(out_segment(request_id)) == request_id
    ids = np.array([request_id])
    assert out_request(out_segment(ids)).tolist() == [request_id]


def test_a_stream_shares_nothing_unless_told():
    stream = Stream(1.0, lambda: [new_rows(1)])
    assert stream.segments.dtype == SEGMENTS and stream.items.dtype == ITEMS
    assert len(stream.segments) == len(stream.items) == 0
    assert MODALITIES == ("image", "audio", "video")


@given(shared_prompts())
def test_prompts_that_can_be_are_taken(prompt):
    rows, segments = prompt
    check_stream(rows)
    check_segments(rows, segments, NO_ITEMS)


@given(shared_prompts(), st.randoms(use_true_random=False))
def test_the_order_of_rows_is_nothing_to_their_prompts(prompt, random):
    rows, segments = prompt
    order = list(range(len(rows)))
    random.shuffle(order)
    check_segments(rows[order], segments, NO_ITEMS)


@st.composite
def any_tables(draw):
    """Small tables where little is right: slices that overlap or leave the table, odd lengths, any answers."""
    rows, _ = prompts(*[[]] * draw(st.integers(1, 3)), answers=2)
    size = draw(st.integers(0, 6))
    segments = np.array([(draw(st.integers(-4, 2)), draw(st.sampled_from([0, 1, 2, 2, 2, 3]))) for _ in range(size)], SEGMENTS)
    item = st.tuples(st.integers(-1, 3), st.integers(-1, 6), st.integers(0, 4), st.integers(-1, 2), st.integers(-5, 5))
    items = np.array(draw(st.lists(item, max_size=4)), ITEMS)
    for name, table in (("segments", segments), ("items", items)):
        for row in rows:
            row[f"{name}_start"] = draw(st.integers(-1, len(table)))
            row[f"{name}_count"] = draw(st.integers(-1, 3))
    rows["input_tokens"] = draw(st.lists(st.integers(1, 7), min_size=len(rows), max_size=len(rows)))
    rows["arrival_ns"] = draw(st.lists(st.integers(0, 1), min_size=len(rows), max_size=len(rows)))
    return rows, segments, items


def naive_mistakes(rows, segments, items):
    """(row, word of the law) for every mistake: the laws as they are told, one row and one piece after another."""
    chains, found = [], []
    for r, row in enumerate(rows):
        for name, table in (("segments", segments), ("items", items)):
            start, count = int(row[f"{name}_start"]), int(row[f"{name}_count"])
            if count < 0 or (count > 0 and not 0 <= start <= start + count <= len(table)):
                found.append((r, "slice"))
                row[f"{name}_count"] = 0
        chains.append(segments[row["segments_start"] :][: row["segments_count"]].tolist())
    lengths = {}
    for segment_id, tokens in (piece for chain in chains for piece in chain[:-1]):
        lengths.setdefault(segment_id, tokens)
    for r, (row, chain) in enumerate(zip(rows, chains, strict=True)):
        laws = [("sum", chain and sum(tokens for _, tokens in chain) != row["input_tokens"])]
        for k, (segment_id, tokens) in enumerate(chain):
            length = lengths.get(segment_id, tokens)
            laws += [("least", tokens < 1), ("elsewhere", tokens > length or (k < len(chain) - 1 and tokens < length))]
            laws += naive_answer_laws(rows, row, segment_id, tokens) if segment_id < 0 else []
        end = -99
        for modality, offset, tokens, units, _ in items[row["items_start"] :][: row["items_count"]].tolist():
            laws += [("least", tokens < 1), ("least", units < 0), ("modality", modality not in (0, 1, 2))]
            laws += [("inside", offset < 0 or offset + tokens > row["input_tokens"]), ("overlaps", offset < end)]
            end = offset + tokens
        found += [(r, law) for law, broken in laws if broken]
    return sorted(found)


def naive_answer_laws(rows, row, segment_id, tokens):
    author = next((other for other in rows if other["request_id"] == out_request(segment_id)), None)
    if author is None:
        return [("no request", True)]
    when, now = ((other["arrival_ns"], other["request_id"]) for other in (author, row))
    return [("later", when >= now), ("longer", tokens > author["output_tokens"])]


WORDS = {
    "expected a slice": "slice", "tokens elsewhere": "elsewhere", "no request": "no request", "arrives later": "later",
    "its own answer": "later", "that answer has": "longer", "its segments have": "sum", "expected 0 to 2": "modality",
    "inside the prompt": "inside", "overlaps": "overlaps", "expected at least": "least",
}  # fmt: skip


@given(any_tables())
@settings(max_examples=1000)
def test_the_laws_are_those_of_a_twin_in_plain_python(tables):
    rows, segments, items = tables
    told = []
    for mistake in segment_mistakes(rows, segments, items, lambda row: f"row {row}"):
        row = int(re.match(r"row (\d+), ", mistake)[1])
        told.append((row, next(law for word, law in WORDS.items() if word in mistake)))
    assert sorted(told) == naive_mistakes(rows.copy(), segments, items)


def test_a_prompt_may_end_inside_a_piece_but_not_go_on_after_it():
    rows, segments = prompts([(0, 10), (1, 5)], [(0, 4)], [(0, 10), (1, 3)])
    check_segments(rows, segments, NO_ITEMS)
    rows, segments = prompts([(0, 10), (1, 5)], [(0, 4), (1, 5)])
    cut = "tokens: this segment has 10 tokens elsewhere; only a prompt's last may be cut"
    assert refusal(rows, segments) == f"row 1, segment 0 of its prompt, id 0 of 4 {cut}"
    rows, segments = prompts([(0, 10), (1, 5)], [(0, 11)])
    assert refusal(rows, segments) == f"row 1, segment 0 of its prompt, id 0 of 11 {cut}"


def test_all_turns_of_a_conversation_may_slice_one_run():
    rows, segments = prompts([(0, 10), (1, 5), (out_segment(0), 4), (2, 6)], [], [])
    rows["segments_start"], rows["segments_count"], rows["input_tokens"] = 0, [2, 4, 3], [15, 25, 19]
    check_segments(rows, segments, NO_ITEMS)


def test_an_answer_that_cannot_be_in_a_prompt_is_refused_by_name():
    rows, segments = prompts([], [(out_segment(9), 4)])
    assert refusal(rows, segments) == "row 1, segment 0 of its prompt, out:9 of 4 tokens: the stream has no request 9"
    rows, segments = prompts([(out_segment(1), 4)], [(out_segment(0), 4)])
    assert refusal(rows, segments) == (
        "row 0, segment 0 of its prompt, out:1 of 4 tokens: that request arrives later, at 1.000000000 s"
    )
    rows, segments = prompts([(0, 1), (out_segment(0), 4)])
    assert refusal(rows, segments) == "row 0, segment 1 of its prompt, out:0 of 4 tokens: its own answer"
    rows, segments = prompts([], [(out_segment(0), 5)])
    assert refusal(rows, segments) == "row 1, segment 0 of its prompt, out:0 of 5 tokens: that answer has 4 tokens"


def test_of_two_requests_of_one_instant_only_the_second_can_hold_the_others_answer():
    rows, segments = prompts([], [(out_segment(0), 4)])
    rows["arrival_ns"] = 5
    check_segments(rows, segments, NO_ITEMS)
    rows, segments = prompts([(out_segment(1), 4)], [])
    rows["arrival_ns"] = 5
    assert "row 0" in refusal(rows, segments)


def test_names_end_where_the_consumers_own_begin():
    rows, segments = prompts([(MAX_SEGMENT_ID, 10)])
    check_segments(rows, segments, NO_ITEMS)
    rows, segments = prompts([(MAX_SEGMENT_ID + 1, 10)])
    assert f"id {2**62} of 10 tokens: expected an id of at most {MAX_SEGMENT_ID}" in refusal(rows, segments)


def test_pieces_add_up_to_the_prompt():
    rows, segments = prompts([(0, 10), (1, 5)])
    rows["input_tokens"] = 16
    assert refusal(rows, segments) == "row 0, input_tokens = 16: its segments have 15 tokens"


@pytest.mark.parametrize(("start", "count"), [(0, 3), (-1, 1), (2, 1), (0, -1), (2**63 - 1, 2**31 - 1), (-(2**63), 1)])
def test_slices_outside_their_table_are_told_and_read_no_further(start, count):
    rows, segments = prompts([(0, 10), (1, 5)])
    rows["segments_start"], rows["segments_count"] = start, count
    assert refusal(rows, segments) == (
        f"row 0, segments_start = {start}, segments_count = {count}: expected a slice of the stream's 2 segments"
    )


def test_items_side_by_side_are_taken_and_others_told():
    check_segments(*swapped(with_items((0, 0, 40, 9, -7), (2, 40, 60, 0, -7))))
    for item, told in [
        ((3, 50, 5, 1, 0), "row 0, item 1 of its prompt, modality = 3: expected 0 to 2"),
        ((1, 39, 5, 1, 0), "row 0, item 1 of its prompt, offset = 39: overlaps the item before it"),
        ((1, 96, 5, 1, 0), "row 0, item 1 of its prompt, offset = 96: expected an item inside the prompt"),
        ((1, 50, 0, 1, 0), "row 0, item 1 of its prompt, tokens = 0: expected at least 1"),
        ((1, 50, 5, -1, 0), "row 0, item 1 of its prompt, encoder_units = -1: expected at least 0"),
    ]:
        message = refusal(*swapped(with_items((0, 0, 40, 9, -7), item)))
        assert message.startswith(told) and "\n" not in message


def swapped(rows_and_items):
    rows, items = rows_and_items
    return rows, NO_SEGMENTS, items


def test_at_most_ten_mistakes_are_listed():
    rows, segments = prompts(*[[(k, 0)] for k in range(30)])
    assert len(refusal(rows, segments).splitlines()) == 11


def test_tables_of_another_kind_are_refused():
    rows, segments = prompts([(0, 10)])
    with pytest.raises(WorkloadError, match="dtype ITEMS"):
        check_segments(rows, segments, segments)
    with pytest.raises(WorkloadError, match="dtype STREAM"):
        check_segments(np.zeros(3), segments, NO_ITEMS)


def test_entries_that_no_prompt_names_are_not_looked_at():
    rows, segments = prompts([(0, 10)])
    check_segments(rows, np.append(segments, np.array([(0, -5)], SEGMENTS)), np.zeros(1, ITEMS))
    check_segments(new_rows(0), segments, NO_ITEMS)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
def test_what_prompts_share_is_in_the_file_beside_a_stream(tmp_path, name):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    rows, segments = prompts([(0, 10)], [(0, 10), (out_segment(0), 4)])
    save(Stream(2.0, lambda: [rows], segments=segments), tmp_path / name)
    back = load(tmp_path / name)
    assert np.array_equal(back.segments, segments) and np.array_equal(back.collect(), rows)
