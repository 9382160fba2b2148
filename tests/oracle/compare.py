"""A comparison: where a replay parts from what was recorded, and the first such place told in full."""

from collections.abc import Iterator
from itertools import zip_longest
from typing import NamedTuple

from tests.oracle.case import Case, Step
from tests.oracle.replay import Outcome

_WIDTH = 28


class Mismatch(NamedTuple):
    """One thing recorded that came out otherwise. `step` is its number, None for what is said of a request."""

    what: str
    step: int | None
    expected: object
    got: object


def compare(case: Case, outcome: Outcome) -> list[Mismatch]:
    """Every step that differs, by number; then every request whose times or answer do, by id."""
    return [*_steps(case, outcome), *_requests(case, outcome)]


def _steps(case: Case, outcome: Outcome) -> Iterator[Mismatch]:
    for index, (expected, got) in enumerate(zip_longest(case.steps, outcome.steps)):
        if expected != got:
            yield Mismatch(f"step {index}", index, expected, got)


def _requests(case: Case, outcome: Outcome) -> Iterator[Mismatch]:
    if len(outcome.records) != len(case.requests):
        yield Mismatch("requests that left", None, len(case.requests), len(outcome.records))
    left = {record["request_id"]: record for record in outcome.records}
    for request in case.requests:
        record = left.get(request.id, {})
        expected = {
            "first_token_ns": case.first_token_ns[request.id],
            "finish_ns": case.finish_ns[request.id],
            "output_tokens": request.output_tokens,
        }
        for name, value in expected.items():
            if record.get(name) != value:
                yield Mismatch(f"request {request.id}, {name}", None, value, record.get(name))


def told(case: Case, mismatches: list[Mismatch]) -> str:
    """The first mismatch as text: both versions side by side, and for a step the requests in it and the step before."""
    first = mismatches[0]
    lines = [f"{case.case}, {first.what}: first of {len(mismatches)} mismatches"]
    if first.step is None:
        return "\n".join([*lines, f"  expected {first.expected}, got {first.got}"])
    expected, got = _parts(first.expected), _parts(first.got)
    lines.append(f"    {'expected':{_WIDTH}}  got")
    lines += [
        f"  {' ' if one == other else '≠'} {one or '':{_WIDTH}}  {other or ''}".rstrip()
        for one, other in zip_longest(expected, got)
    ]
    lines.append("  before this step")
    lines += [f"    {line}" for line in _before(case, first)]
    return "\n".join(lines)


def _parts(step: object) -> list[str]:
    """A step, a line for each thing in it, so that equal things stand side by side as far as the steps agree."""
    if not isinstance(step, Step):
        return ["no step"]
    return [
        f"ends at {step.end_ns} ns",
        f"preempted {_listed(step.preempted)}",
        f"encoded {_listed(step.encoded)}",
        *(f"request {request_id}: {tokens} tokens" for request_id, tokens in step.batch),
    ]


def _listed(values: list) -> str:
    return ", ".join(str(value) for value in values) or "none"


def _before(case: Case, mismatch: Mismatch) -> Iterator[str]:
    """What the record says up to the step: each request's tokens since it was last admitted, prefix hits left out."""
    assert mismatch.step is not None
    planned: dict[int, int] = {}
    for step in case.steps[: mismatch.step]:
        planned.update(dict.fromkeys(step.preempted, 0))
        for request_id, tokens in step.batch:
            planned[request_id] = planned.get(request_id, 0) + tokens
    ended = case.steps[min(mismatch.step, len(case.steps)) - 1].end_ns if mismatch.step else 0
    yield f"the step before ended at {ended} ns"
    involved: set[int] = set()
    for side in (mismatch.expected, mismatch.got):
        if isinstance(side, Step):
            involved.update([*(request_id for request_id, _ in side.batch), *side.preempted])
    for request in case.requests:
        if request.id not in involved:
            continue
        yield (
            f"request {request.id}: arrived at {request.arrival_ns} ns, prompt {request.input_tokens}, "
            f"answer {request.output_tokens} of {request.max_tokens or request.output_tokens}, "
            f"priority {request.priority}, {planned.get(request.id, 0)} tokens planned so far"
        )
