"""The harness itself: what it is told it repeats, whatever differs it finds, and what is no case it refuses.

A parrot stands in for the simulator: it reports the recorded steps, or those with one thing changed.
"""

import gzip
import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import RECORD
from tests.oracle import case as case_file
from tests.oracle.__main__ import main
from tests.oracle.case import CaseError, case_files, parse_case, read_case
from tests.oracle.cases import BY_HAND, asks, by_hand, step
from tests.oracle.compare import compare, told
from tests.oracle.replay import ENGINES, replay, stream_of
from workloads.stream import check_stream, out_segment

CASES = {case.case: case for case in BY_HAND}
PREEMPTING = CASES["a_preempted_request_goes_to_the_front_and_starts_over"]
ENCODING = CASES["a_chunk_stops_before_an_image_without_room"]


def records_of(case):
    rows = np.zeros(len(case.requests), RECORD)
    for row, request in zip(rows, case.requests):
        row["request_id"], row["output_tokens"] = request.id, request.output_tokens
        row["first_token_ns"], row["finish_ns"] = case.first_token_ns[request.id], case.finish_ns[request.id]
    return rows


def parrot(case, steps=None, records=None):
    """A `simulate` that reports the steps and records of the case, or those that are given."""

    def play(stream, cluster, probe):
        for end_ns, batch, preempted, encoded in case.steps if steps is None else steps:
            probe.step_ended(
                0,
                end_ns - 1,
                end_ns,
                SimpleNamespace(
                    requests=[SimpleNamespace(request_id=request_id) for request_id, _ in batch],
                    tokens=[tokens for _, tokens in batch],
                    preempted=[SimpleNamespace(request_id=request_id) for request_id in preempted],
                    encoded=[(SimpleNamespace(request_id=request_id), index) for request_id, index in encoded],
                ),
            )
        return SimpleNamespace(records=records_of(case) if records is None else records)

    return play


def mismatches_of(case, **changed):
    return compare(case, replay(case, parrot(case, **changed)))


def with_step(case, index, **changed):
    return [step._replace(**changed) if i == index else step for i, step in enumerate(case.steps)]


@pytest.mark.parametrize("case", BY_HAND, ids=lambda case: case.case)
def test_what_was_recorded_does_not_differ_from_itself(case):
    assert mismatches_of(case) == []


@given(st.data())
def test_one_number_changed_in_one_step_is_found_there(data):
    case = data.draw(st.sampled_from(BY_HAND))
    index = data.draw(st.integers(0, len(case.steps) - 1))
    old = case.steps[index]
    places = [("end_ns", 0, 0), *(("batch", i, side) for i in range(len(old.batch)) for side in (0, 1))]
    part, at, side = data.draw(st.sampled_from(places))
    by = data.draw(st.sampled_from([-1, 1]))
    if part == "end_ns":
        new = old._replace(end_ns=old.end_ns + by)
    else:
        pair = list(old.batch[at])
        pair[side] += by
        new = old._replace(batch=[*old.batch[:at], tuple(pair), *old.batch[at + 1 :]])
    found = mismatches_of(case, steps=[*case.steps[:index], new, *case.steps[index + 1 :]])
    assert [mismatch.step for mismatch in found] == [index]


@pytest.mark.parametrize(
    ("case", "steps", "differ"),
    [
        (PREEMPTING, with_step(PREEMPTING, 3, batch=[(2, 4), (1, 6)]), [3]),
        (PREEMPTING, with_step(PREEMPTING, 1, preempted=[]), [1]),
        (PREEMPTING, with_step(PREEMPTING, 1, preempted=[2]), [1]),
        (PREEMPTING, with_step(PREEMPTING, 1, batch=[(0, 1), (2, 4)]), [1]),
        (ENCODING, with_step(ENCODING, 0, encoded=[]), [0]),
        (ENCODING, with_step(ENCODING, 0, encoded=[(0, 1)]), [0]),
        (PREEMPTING, PREEMPTING.steps[:-1], [4]),
        (PREEMPTING, [*PREEMPTING.steps, PREEMPTING.steps[-1]], [5]),
        (PREEMPTING, PREEMPTING.steps[1:], [0, 1, 2, 3, 4]),
    ],
    ids=["order", "no victim", "other victim", "one more", "not encoded", "other item", "one less", "one too many", "shifted"],
)
def test_steps_that_differ_are_found(case, steps, differ):
    assert [mismatch.step for mismatch in mismatches_of(case, steps=steps)] == differ


@pytest.mark.parametrize("column", ["first_token_ns", "finish_ns", "output_tokens"])
def test_a_request_that_came_out_otherwise_is_found(column):
    records = records_of(PREEMPTING)
    records[column][1] += 1
    (found,) = mismatches_of(PREEMPTING, records=records)
    assert (found.what, found.got) == (f"request 1, {column}", found.expected + 1)


def test_a_request_that_never_left_or_left_twice_is_found():
    records = records_of(PREEMPTING)
    assert mismatches_of(PREEMPTING, records=records[1:])
    (found,) = mismatches_of(PREEMPTING, records=np.concatenate([records, records[:1]]))
    assert (found.expected, found.got) == (3, 4)


def test_the_first_mismatch_is_told_with_both_versions_and_what_came_before():
    steps = with_step(PREEMPTING, 3, batch=[(1, 5), (2, 4)])
    lines = told(PREEMPTING, mismatches_of(PREEMPTING, steps=steps)).splitlines()
    assert lines[0] == f"{PREEMPTING.case}, step 3: first of 1 mismatches"
    assert "  ≠ request 1: 6 tokens           request 1: 5 tokens" in lines
    assert "    request 2: 4 tokens           request 2: 4 tokens" in lines
    assert "    the step before ended at 3182 ns" in lines
    assert "    request 1: arrived at 0 ns, prompt 5, answer 3 of 3, priority 0, 0 tokens planned so far" in lines


def test_equal_keys_become_equal_segments_and_images_become_items():
    prompts = [[("a", 2), ("imgX", 3), ("imgX", 3)], [("a", 2), ("out:0", 1), ("imgY", 4)]]
    case = by_hand("-", [asks(0, prompt, 1) for prompt in prompts], [], [1, 1], [1, 1], encoder_budget=4, encoder_cache=4)
    stream = stream_of(case)
    check_stream(stream.collect())
    assert stream.collect()["input_tokens"].tolist() == [8, 7]
    ids = stream.segments["segment_id"].tolist()
    assert ids[0] == ids[3] and ids[1] == ids[2] and ids[4] == out_segment(0) and len(set(ids)) == 4
    assert stream.items["offset"].tolist() == [2, 5, 3]
    assert stream.items["tokens"].tolist() == stream.items["encoder_units"].tolist() == [3, 3, 4]
    identities = stream.items["item_id"].tolist()
    assert identities[0] == identities[1] != identities[2]


def test_a_limit_beyond_the_instance_is_lowered_but_stays_beyond_the_end():
    def max_tokens(output_tokens, limit):
        case = by_hand("-", [asks(0, 10, output_tokens, max_tokens=limit)], [], [1], [1], num_blocks=6)
        return stream_of(case).collect()["max_tokens"].tolist()

    assert max_tokens(5, 7) == [7]
    assert max_tokens(5, 90) == [10]  # 5 usable blocks of 4 hold 20 tokens
    assert max_tokens(10, 90) == [11]


# The command line


def written(folder, case, name="case.json.gz"):
    path = folder / name
    text = case.model_dump_json(exclude_none=True).encode()
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return path


def test_a_case_is_read_as_it_was_written(tmp_path):
    for name in ("case.json", "case.json.gz"):
        assert read_case(written(tmp_path, ENCODING, name)) == ENCODING


def test_the_command_prints_a_line_for_each_case_and_exits_0(tmp_path, capsys, monkeypatch):
    written(tmp_path, PREEMPTING)
    monkeypatch.setitem(ENGINES, "reference", parrot(PREEMPTING))
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{PREEMPTING.case} 5 0\n"
    assert main([str(tmp_path), "--table"]) == 0
    assert f"| {PREEMPTING.case} | 3 | 5 | 1 | 0 | 0 |" in capsys.readouterr().out


def test_the_command_tells_the_first_mismatch_and_exits_1(tmp_path, capsys, monkeypatch):
    path = written(tmp_path, PREEMPTING)
    monkeypatch.setitem(ENGINES, "reference", parrot(PREEMPTING, steps=with_step(PREEMPTING, 1, preempted=[])))
    assert main([str(path), "--engine", "reference"]) == 1
    printed = capsys.readouterr()
    assert printed.out == f"{PREEMPTING.case} 5 1\n"
    assert f"{PREEMPTING.case}, step 1: first of 1 mismatches" in printed.err


def test_paths_without_cases_are_all_named_and_exit_2(tmp_path, capsys):
    assert main([str(tmp_path), str(tmp_path / "absent.json")]) == 2
    told_errors = capsys.readouterr().err.splitlines()
    assert len(told_errors) == 2 and "no file in it" in told_errors[0] and "no such file" in told_errors[1]


def test_a_folder_is_searched_in_order_of_name(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "notes.txt").write_text("")
    paths = [written(tmp_path, ENCODING, name) for name in ("a.json", "b/a.json.gz", "c.json")]
    assert case_files([tmp_path]) == paths


def changed(path, value):
    """The JSON of a case with the value at `path` replaced, or added."""
    *inside, last = path
    tree = json.loads(PREEMPTING.model_dump_json(exclude_none=True))
    place = tree
    for key in inside:
        place = place[key]
    place[last] = value
    return json.dumps(tree).encode()


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (b"steps: none", "f: Invalid JSON"),
        (b"[" * 100_000, "f: Invalid JSON"),
        (changed(["engine", "block_sise"], 4), "f: engine.block_sise: no such key; nearest: block_size"),
        (changed(["requests", 0, "out_tokens"], 4), "f: requests.0.out_tokens: no such key; nearest: output_tokens"),
        (changed(["engine", "policy"], "lifo"), "f: engine.policy: Input should be 'fcfs' or 'priority'"),
        (changed(["engine", "num_blocks"], "8"), "f: engine.num_blocks: Input should be a valid integer"),
        (changed(["requests", 0, "arrival_ns"], -1), "f: requests.0.arrival_ns: Input should be greater than or equal to 0"),
        (changed(["requests", 0, "prompt"], []), "f: requests.0.prompt: List should have at least 1 item"),
        (changed(["requests", 0, "prompt"], [["p1", 7]]), "f: requests.1.prompt: 'p1' has 5 tokens here and 7 elsewhere"),
        (changed(["requests", 0, "prompt"], [["out:9", 7]]), "f: requests.0.prompt: 'out:9' names no request"),
        (changed(["requests", 0, "prompt"], [["img", 7]]), "f: requests.0.prompt: 'img' fits neither"),
        (changed(["requests", 0, "max_tokens"], 1), "f: requests.0.max_tokens = 1: expected at least output_tokens"),
        (changed(["requests", 1, "id"], 0), "f: requests: expected ids in order, each once"),
        (changed(["finish_ns", "9"], 0), "f: finish_ns: expected a time for each request"),
        (changed(["steps", 0, 1, 0, 0], 9), "f: steps.0: 9 is the id of no request"),
    ],
)
def test_what_is_no_case_is_refused_at_its_place(text, mistake):
    with pytest.raises(CaseError) as error:
        parse_case(text, "f")
    assert mistake in str(error.value)


def test_all_mistakes_are_told_up_to_ten():
    with pytest.raises(CaseError) as error:
        parse_case(b'{"engine": {}}', "f")
    assert len(str(error.value).splitlines()) == 11 and "further mistakes are not listed" in str(error.value)


def test_files_that_are_cut_or_too_large_are_refused(tmp_path, monkeypatch):
    path = written(tmp_path, ENCODING)
    monkeypatch.setattr(case_file, "MAX_FILE_BYTES", 100)
    with pytest.raises(CaseError, match="at most"):
        read_case(path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CaseError, match="cannot be read"):
        read_case(path)


def test_a_case_by_hand_is_written_in_the_words_of_the_format():
    case = by_hand("-", [asks(0, 3, 1)], [step(1033, (0, 3))], [1033], [1033])
    assert case.requests[0].prompt == [("p0", 3)] and case.steps[0].batch == [(0, 3)] and case.preemptions == 0
