"""A batch: what one iteration computes, and the sums that its duration depends on."""

from sim.request import Request


class Batch:
    """What one iteration computes: tokens for each request, in order, and the sums that its duration depends on."""

    __slots__ = (
        "admitted",
        "context_tokens",
        "decode_context_tokens",
        "decodes",
        "encode_tokens",
        "encoded",
        "preempted",
        "prefill_tokens",
        "prefill_work",
        "requests",
        "sampled",
        "samples",
        "tokens",
    )

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.tokens: list[int] = []
        self.admitted: list[Request] = []
        self.sampled: list[bool] = []  # who gets a token at the end
        self.preempted: list[Request] = []
        self.encoded: list[tuple[Request, int]] = []  # (request, index of its item)
        self.prefill_tokens = 0
        self.prefill_work = 0  # sum over prefill chunks of n * (n + 2 * computed before)
        self.decodes = 0
        self.decode_context_tokens = 0  # sum over decodes of the context, the token computed now included
        self.context_tokens = 0  # sum over all of what is computed after the iteration
        self.encode_tokens = 0
        self.samples = 0

    def close(self, is_async: bool) -> None:
        """Planning is over: everyone's tokens count as computed, and the sums are known."""
        decodes = decode_context = samples = 0
        sampled = self.sampled
        for request, tokens in zip(self.requests, self.tokens):
            computed = request.computed
            request.computed = after = computed + tokens
            if tokens == 1 and computed:  # for the step cost one token after others is a decode, whatever its history
                decodes += 1
                decode_context += after
            else:
                self.prefill_tokens += tokens
                self.prefill_work += tokens * (tokens + 2 * computed)
                self.context_tokens += after
            is_sampled = after >= request.tokens + request.placeholders
            sampled.append(is_sampled)
            if is_sampled:
                samples += 1
                if is_async:
                    request.placeholders += 1
            if is_async:
                request.inflight += tokens
        self.decodes, self.samples = decodes, samples
        self.decode_context_tokens = decode_context
        self.context_tokens += decode_context
