"""How long prompts and answers are, before anybody says, and where nobody will.

Nothing is tokenised: that costs more than all else a gateway does (a prompt of 1.5 million tokens
takes 150 ms). A prompt is told by its bytes and an answer by what the model's answers came to,
both corrected by what is reported.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import replace

from radgateway.exchange import Exchange, Usage, UsageSource

TOKENS_PER_BYTE = 0.25
"""Tokens of a prompt per byte of its request, until the model's own are known: four bytes a token
is English; JSON and other languages differ, and a picture comes to far less."""
OUTPUT_TOKENS = 500
"""Tokens of an answer whose length nobody bounds, until the model's own are known."""
TOKENS_PER_S = 100
"""Tokens a second that a model has written, where its answer was awaited in vain: most write 50 to
150. One that is awaited for long is long."""
_NO_OUTPUT = frozenset({"countTokens", "embedContent", "batchEmbedContents"})
_LEARNED = 0.2
"""Weight of each new request in what is known of its model."""
_MODELS_MAX = 1024
"""Models remembered; callers may choose the names, so the memory is bounded."""


class _Known:
    __slots__ = ("output_tokens", "tokens_per_byte")

    def __init__(self) -> None:
        self.tokens_per_byte = TOKENS_PER_BYTE
        self.output_tokens = float(OUTPUT_TOKENS)


class Lengths:
    """What is known of the lengths of each model's prompts and answers."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def prompt(self, model: str, body_bytes: int) -> int:
        """Tokens of a prompt in a request of a size."""
        return math.ceil(body_bytes * self._of(model).tokens_per_byte)

    def answer(self, model: str) -> int:
        """Tokens of an answer that nobody bounds."""
        return math.ceil(self._of(model).output_tokens)

    def unseen(self, model: str, most: int | None, waited_s: float) -> int:
        """Tokens of an answer that comes all at once, and for which nobody waits any longer.

        Its provider goes on with it. It is taken for a usual one, or for what can be written in
        that time where that is more: those that are given up are the long ones. `most` are the
        tokens that the caller allows, where it says so.
        """
        tokens = max(self.answer(model), math.ceil(waited_s * TOKENS_PER_S))
        return tokens if most is None else min(tokens, most)

    def learn(self, model: str, body_bytes: int, usage: Usage) -> None:
        """Take note of what a request of a size really used, where that was reported."""
        read, written = usage.input_tokens, usage.output_tokens
        if read is None or written is None or usage.source != "reported":
            return
        known = self._of(model)
        if body_bytes:
            known.tokens_per_byte += _LEARNED * (read / body_bytes - known.tokens_per_byte)
        known.output_tokens += _LEARNED * (written - known.output_tokens)

    def _of(self, model: str) -> _Known:
        known = self._known.get(model)
        if known is None:
            known = self._known[model] = _Known()
            if len(self._known) > _MODELS_MAX:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(model)
        return known


def writes_nothing(exchange: Exchange) -> bool:
    """Whether an operation has no tokens of output, whatever its model."""
    operation = exchange.operation
    return operation is not None and (
        operation.api_type == "embeddings" or operation.action in _NO_OUTPUT
    )


def completed(reported: Usage | None, prompt_tokens: int | None, parts: int | None) -> Usage:
    """What an answer that broke off used: what was reported by then, and the rest estimated.

    `prompt_tokens` is an estimate, and `parts` the tokens of the answer that have come; None where
    there is nothing to tell them by, so that they stay unknown. What a stream says under way is how
    much it had written by then, so the greater of the two counts.
    """
    usage = reported or Usage()
    read, written = usage.input_tokens, usage.output_tokens
    if parts is not None:
        written = max(written or 0, parts)
    read = read if read is not None else prompt_tokens
    nothing = read is None and written is None
    source: UsageSource = "absent" if nothing else "estimated"
    return replace(usage, input_tokens=read, output_tokens=written, source=source)
