"""One attempt at one candidate: its response held back until it may be released, or discarded.

This is the commit point. What an attempt sends is kept here, within a bound, until the reading of
it (`reply.py`) says that nothing speaks against it; then it goes out and every later byte follows
at once. An attempt that fails before that has sent nothing outward, so another can be tried.
"""

from __future__ import annotations

from collections.abc import Callable

from radgateway.asgi import Clock, Headers, Message, Scope, Send, StreamBroken, header, without
from radgateway.dialects.base import Ask, Dialect
from radgateway.dialects.reading import output_limit
from radgateway.errors import CATALOGUE, SOURCE_UPSTREAM, Refusal, end_broken
from radgateway.exchange import Attempt, Exchange, Usage
from radgateway.retry_after import retry_after_s
from radgateway.routing.reply import Reply
from radgateway.usage.estimate import Lengths, completed, writes_nothing
from radgateway.usage.prices import cost_usd

FAILOVER_STATUSES = frozenset({401, 403, 408, 429, 500, 502, 503, 504, 520, 522, 524, 529})
"""Answers another provider may do better on. 401 and 403 are about our credential, not the
caller's, whom this gateway has let in; 529 is Anthropic's word for overloaded."""

_ERROR_MAX = 1024 * 1024
"""Bytes of an error answer kept for the case that no other attempt succeeds."""

_FRAMING = frozenset({b"content-length"})

_TEXTS = {
    "upstream_bad_response": "The provider {0} sent what can't be passed on.",
    "upstream_stream_error": "The provider {0} reported an error before any content: {1}",
    "upstream_truncated": "The provider {0} ended its answer before it was complete.",
    "upstream_connection_lost": "The connection to the provider {0} broke off.",
    "idle_timeout": "The provider {0} stopped sending before its answer was complete.",
    "total_timeout": "The provider {0} took longer than allowed for the whole answer.",
}


class Trial:
    """An attempt under way. `send` is the ASGI send that its provider gets.

    `commit` is asked at the commit point, and may refuse: of two attempts only one may go out.
    """

    __slots__ = (
        "_ask",
        "_clock",
        "_commit",
        "_declined",
        "_dialect",
        "_exchange",
        "_held",
        "_held_bytes",
        "_hide_usage",
        "_lengths",
        "_out",
        "_scope",
        "_start",
        "attempt",
        "finished",
        "released",
        "reply",
        "told_off",
    )

    def __init__(
        self,
        attempt: Attempt,
        exchange: Exchange,
        scope: Scope,
        send: Send,
        dialect: Dialect,
        *,
        ask: Ask,
        commit: Callable[[Trial], bool],
        lengths: Lengths,
        hide_usage: bool,
    ) -> None:
        self.attempt = attempt
        self.reply: Reply | None = None
        self.released = False
        """The caller has its first byte; nothing can be taken back."""
        self.finished = False
        """The response's last message was seen."""
        self.told_off = False
        """The provider said (`x-should-retry: false`) that asking it again would not help."""
        self._commit = commit
        self._exchange = exchange
        self._clock: Clock = exchange.clock
        self._scope = scope
        self._out = send
        self._dialect = dialect
        self._ask = ask
        self._lengths = lengths
        self._hide_usage = hide_usage
        self._declined = False
        self._start: Message | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0

    async def send(self, message: Message) -> None:
        """Take a message of the provider's response."""
        kind = message["type"]
        if kind == "http.response.body":
            if self.reply is not None:
                await self._answer_part(message, self.reply)
            else:
                await self._error_part(message)
        elif kind == "http.response.start":
            await self._begin(message)
        elif self.released:
            await self._out(message)

    async def _begin(self, message: Message) -> None:
        status: int = message["status"]
        attempt = self.attempt
        attempt.status = status
        attempt.response_headers = message["headers"]
        self._start = message
        ours = attempt.failure is not None  # a layer of ours answers in the provider's place
        if not ours:
            attempt.sent = True
        if status < 300:
            self.reply = Reply(
                self._dialect,
                message["headers"],
                stream=self._ask.stream,
                hide_usage=self._hide_usage,
            )
            return
        self._declined = not ours
        if status >= 400 and not ours:
            # In the provider's own words: what a layer of ours says is meant for the caller.
            attempt.retry_after_s = retry_after_s(message["headers"])
            self.told_off = header(message["headers"], b"x-should-retry") == b"false"
        if status < 400 or status in FAILOVER_STATUSES or status >= 500:
            attempt.failure = attempt.failure or _reason(status)

    async def _answer_part(self, message: Message, reply: Reply) -> None:
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        if self.attempt.first_byte is None:
            self.attempt.first_byte = self._clock()
        if reply.ended and self.attempt.failure is not None:
            # Broken off after the last mark: the caller has the whole answer, so it was no failure.
            self.attempt.failure, body = None, b""
            message = {**message, "body": body}
        elif self.attempt.failure is not None and reply.events:
            # The error event of a layer below: the fragment before it will not be completed.
            body = reply.break_off() + body
            message = {**message, "body": body}
        out = reply.feed(body, last=not more)
        if not more:
            self._judge_end(reply)
        if reply.failed and more and not self.released:
            # Nothing more is worth waiting for, or holding; another candidate may do better.
            raise StreamBroken("upstream_stream_error")
        if self.released:
            if reply.ended or not more:
                self._exchange.delivered = True
            await self._pass_on(message, out, more, same=out is body)
            return
        if out:
            self._held.append(out)
        if reply.releasable and (more or self.attempt.failure is None):
            await self._release(more)

    def _judge_end(self, reply: Reply) -> None:
        self.finished = True
        attempt = self.attempt
        if reply.failed:
            attempt.failure = attempt.failure or "upstream_stream_error"
        elif reply.events and not reply.complete:
            attempt.failure = attempt.failure or "upstream_truncated"
        self._settle()

    async def _pass_on(self, message: Message, out: bytes, more: bool, *, same: bool) -> None:
        failure = self.attempt.failure
        if not more and failure is not None:
            self._exchange.interrupted = failure
            if self.reply is not None and not self.reply.failed:
                # It ended as if it were whole. The caller must not take it for that.
                if out:
                    await self._body(out, more=True)
                await end_broken(self._scope, self._out, self.refusal(), events=True)
                return
        if same:
            await self._out(message)
        elif out or not more:
            await self._body(out, more=more)

    async def _error_part(self, message: Message) -> None:
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        if not more:
            self.finished = True
            self._settle()
        if self.released:
            self._exchange.delivered = not more
            await self._out(message)
            return
        self._held.append(body)
        self._held_bytes += len(body)
        if self.attempt.failure is None:
            # The caller's own mistake, as the provider words it: no other attempt would help.
            await self._release(more)
        elif self._held_bytes > _ERROR_MAX:
            raise StreamBroken("upstream_bad_response")

    async def _release(self, more: bool) -> None:
        assert self._start is not None
        if not self._commit(self):
            self._held = []  # another attempt was first, and this one is being cancelled
            return
        self.released = True
        ended = self.reply is not None and self.reply.ended
        self._exchange.delivered = ended or not more
        headers = self._response_headers(self._start["headers"])
        await self._out({**self._start, "headers": headers})
        held, self._held = b"".join(self._held), []
        await self._body(held, more=more)

    def _response_headers(self, headers: Headers) -> Headers:
        own = self._own_headers()
        if self.reply is not None and self.reply.events:
            # An event may be hidden, or one added that says why it breaks off.
            headers = without(headers, _FRAMING)
        if (self.attempt.status or 0) >= 400:
            if header(headers, b"x-radgateway-error-source") is None:
                own.append(SOURCE_UPSTREAM)
            else:
                self._exchange.error_code = self.attempt.failure
        return [*headers, *own]

    def _own_headers(self) -> Headers:
        return [
            (b"x-radgateway-provider", self.attempt.provider.encode("latin-1", "replace")),
            (b"x-radgateway-attempts", b"%d" % len(self._exchange.attempts)),
        ]

    async def _body(self, body: bytes, *, more: bool) -> None:
        await self._out({"type": "http.response.body", "body": body, "more_body": more})

    def broken(self, reason: str) -> None:
        """The provider's response broke off and can't be finished."""
        attempt = self.attempt
        attempt.failure = attempt.failure or (
            reason if reason in CATALOGUE else "upstream_connection_lost"
        )
        if self.released:
            self._exchange.interrupted = attempt.failure

    def close(self) -> None:
        """The attempt is over, if its last message did not end it already."""
        if self.attempt.ended is None:
            self._settle()

    def _settle(self) -> None:
        # Before the last message goes out: when the caller has the answer, what it used is known.
        attempt = self.attempt
        attempt.ended = self._clock()
        if self.reply is not None:
            attempt.usage = self._used(self.reply)
            attempt.cost_usd = cost_usd(attempt.usage, attempt.price)
        elif attempt.sent and not self._declined:
            # It has the prompt, and charges for it; what became of it nobody will say.
            attempt.usage = completed(None, self._prompt_tokens(), self._unseen())
            attempt.cost_usd = cost_usd(attempt.usage, attempt.price)

    def _used(self, reply: Reply) -> Usage | None:
        """What the attempt used, as far as anybody can tell; None where that is nothing."""
        reply.close()
        usage = reply.usage
        whole = reply.complete and self.attempt.failure is None
        if whole and usage is None and (self.finished or reply.ended):
            return Usage(source="absent")  # all was said, and nothing of it
        if whole and usage is not None:
            body_bytes = 0 if self._is_form else len(self._ask.body)
            self._lengths.learn(self.attempt.model, body_bytes, usage)
            return usage
        if reply.failed and usage is None and not reply.parts:
            return None  # an error answer, if under a 200
        if usage is not None and usage.total_tokens is not None and reply.reported_in_full:
            return usage
        written = reply.parts if reply.told else self._unseen()
        return completed(usage, self._prompt_tokens(), written)

    @property
    def _is_form(self) -> bool:
        """A form has a recording in it, whose length in bytes says nothing."""
        return self._ask.content_type[:10].lower() == b"multipart/"

    def _prompt_tokens(self) -> int | None:
        """Tokens of the prompt, estimated; None where nothing tells."""
        if self._is_form:
            return None
        return self._lengths.prompt(self.attempt.model, len(self._ask.body))

    def _unseen(self) -> int | None:
        """Tokens of an answer that did not come, estimated; None where nothing tells."""
        attempt = self.attempt
        if self._ask.stream:
            # It ends with its connection, and nothing of it had come.
            return 0 if attempt.first_byte is None else None
        if writes_nothing(self._exchange):
            return 0
        if not self._dialect.texts:
            return None
        waited_s = attempt.latency_s(self._clock())
        return self._lengths.unseen(attempt.model, output_limit(self._ask), waited_s)

    async def deliver(self) -> None:
        """No other attempt will be made: give the caller what this one came to."""
        redirect = self._start is not None and 300 <= self._start["status"] < 400
        if self.finished and self._start is not None and self.reply is None and not redirect:
            await self._release(more=False)
            return
        if self.finished and self.reply is not None and not self.reply.events:
            # An error body under a 200: its words are kept, its status would be a lie.
            assert self._start is not None
            self._start = {**self._start, "status": 502}
            self.attempt.status = 502
            await self._release(more=False)
            return
        raise self.refusal()

    def refusal(self) -> Refusal:
        """The failure as an answer of ours."""
        code = self.attempt.failure or "upstream_error"
        if code not in CATALOGUE:
            code = "upstream_error"
        text = _TEXTS.get(code, "The provider {0} failed ({1}).")
        detail = (self.reply.error_text if self.reply is not None else "") or code
        return Refusal(
            code,
            text.format(self.attempt.provider, detail),
            headers=self._own_headers(),
        )


def _reason(status: int) -> str:
    """A failed status as a reason from a closed set.

    A redirect is a failure: it would send a client and its body to an address nobody configured.
    """
    if status < 400:
        return "upstream_bad_response"
    return f"http_{status}" if status in FAILOVER_STATUSES else "http_5xx"
