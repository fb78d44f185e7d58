"""Every log line of the gateway, declared once: its schema, its names, its levels and its fields.

The schema is the operations strategy's (its 5.2). A line's message is the name of what happened;
where more is said, it stands after a colon.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Level = Literal["debug", "info", "warning", "error"]


class DeclaredLine(NamedTuple):
    """One kind of line. `fields` are those it may have."""

    name: str
    levels: tuple[Level, ...]
    fields: frozenset[str]
    help: str
    always: bool = False
    """Written whatever the log level is."""


SCHEMA: Final[dict[str, str]] = {
    "@timestamp": "RFC 3339 in UTC, to the millisecond",
    "level": "`debug`, `info`, `warning`, `error` or `critical`",
    "message": "what happened",
    "service": "`rad-gateway`",
    "version": "of the gateway",
    "environment": "`local`, `alpha`, `staging` or `production`",
    "request_id": "within a request: the `X-Request-Id`",
    "trace_id": "within a request: the trace's 32 hex digits",
    "fields": "everything else",
}
"""What is on the lines, in this order; the last three where there is something to say."""

REQUEST_FIELDS: Final[dict[str, str]] = {
    "outcome": "`success`, `client_error`, `refused`, `upstream_error`, `interrupted` or "
    "`client_disconnected`",
    "status": "the status, 499 for a client that left",
    "method": "the method",
    "route": "the path's template, or `other`",
    "duration_ms": "from arrival to the last byte",
    "ttft_ms": "from arrival to the first byte of the answer",
    "principal": "the key's name",
    "model": "as the caller named it",
    "stream": "whether the answer was to stream",
    "backed_off_ms": "spent waiting before the same was tried again",
    "queued_ms": "spent waiting for admission",
    "limited": "the kind of limit that refused it",
    "error_code": "a code of the errors' reference",
    "interrupted": "why an answer that had begun was not completed",
    "provider": "whose answer the caller got",
    "input_tokens": "of that answer, those cached included",
    "output_tokens": "of that answer, reasoning included",
    "usage_source": "`reported`, `estimated` or `absent`",
    "cost_usd": "of that answer, as a decimal",
    "attempts": "a list of the attempts, in order",
}
"""Fields of the line that each request leaves, `radgateway.request`."""

ATTEMPT_FIELDS: Final[dict[str, str]] = {
    "provider": "its name",
    "model": "as it was asked for",
    "status": "what it answered; null for nothing",
    "duration_ms": "from the start to the last byte",
    "failure": "why it failed",
    "hedge": "true for one made beside another that was late",
}
"""Fields of each entry of `attempts`."""


def _line(name: str, levels: str, fields: str, text: str, *, always: bool = False) -> DeclaredLine:
    known: dict[str, Level] = {
        "debug": "debug", "info": "info", "warning": "warning", "error": "error"
    }  # fmt: skip
    return DeclaredLine(
        f"radgateway.{name}",
        tuple(known[level] for level in levels.split()),
        frozenset(fields.split()),
        text,
        always,
    )


LINES: Final[dict[str, DeclaredLine]] = {
    line.name: line
    for line in (
        # of each request
        _line(
            "request",
            "info warning error",
            " ".join(REQUEST_FIELDS),
            "A request has ended. ERROR for a 5xx and an answer broken off, WARN for a 4xx, INFO "
            "for the rest; failed authentication is INFO and passes any level.",
        ),
        _line("request.body", "debug", "bytes content_type body", "What was asked; in `local`."),
        _line(
            "provider.exchange",
            "info",
            "attempt provider model route stream request_bytes status failure sent connect_ms "
            "first_byte_ms waited_ms longest_gap_ms duration_ms headers",
            "What went to a provider and came back; in `local` and `alpha`.",
        ),
        # the audit's
        _line(
            "audit.authentication",
            "info",
            "by from method path status outcome",
            "Authentication refused a request; the outcome is its code.",
            always=True,
        ),
        _line(
            "audit.admin",
            "info",
            "by from method path status outcome",
            "A request to the management API has ended.",
            always=True,
        ),
        _line(
            "admin.drain", "warning", "by from path outcome order", "An admin's drain.", always=True
        ),
        _line(
            "admin.breaker",
            "warning",
            "by from path outcome order",
            "An admin's change of a breaker.",
            always=True,
        ),
        _line(
            "admin.incident",
            "warning",
            "by from path outcome order",
            "A responder's order to the incident app.",
            always=True,
        ),
        _line(
            "admin.deployment",
            "warning",
            "by from path outcome order",
            "A deployment has begun or ended, in the incident app.",
            always=True,
        ),
        _line(
            "admin.reload",
            "warning",
            "by from path outcome order",
            "An admin's order to reload.",
            always=True,
        ),
        _line(
            "config.reloaded",
            "warning",
            "by generation changes more",
            "Another configuration is in force: what has changed, and who asked for it.",
            always=True,
        ),
        _line(
            "config.unchanged",
            "info",
            "by generation",
            "A configuration was read, and is in force already.",
            always=True,
        ),
        _line(
            "config.reload_refused",
            "warning",
            "by outcome reason",
            "A configuration was not put in force; nothing has changed.",
            always=True,
        ),
        _line(
            "config.leftover_not_closed",
            "error",
            "",
            "What an earlier configuration has left did not close.",
        ),
        _line(
            "faults.armed",
            "warning",
            "provider by for_s faults abort",
            "Faults were armed.",
            always=True,
        ),
        *(
            _line(f"faults.{word}", "warning", "provider by reason detail", text, always=True)
            for word, text in (
                ("disarmed", "Faults were disarmed."),
                ("expired", "The time that faults were armed for is over."),
                ("aborted", "Faults were disarmed by their abort condition."),
            )
        ),
        # of providers
        *(
            _line(f"breaker.{state}", "warning", "provider was mode last_failure", text)
            for state, text in (
                ("open", "A provider's circuit has opened."),
                ("half_open", "It lets a few calls through to see."),
                ("closed", "It has closed."),
            )
        ),
        _line(
            "breaker.held",
            "warning",
            "provider reason",
            "It would have opened, were it not the last of its model's providers.",
        ),
        _line("breaker.let_go", "warning", "provider", "It is held no longer."),
        _line("breaker.mode", "warning", "provider mode", "An admin set its mode."),
        _line("breaker.resting", "info", "provider seconds", "It asked to be left alone."),
        *(
            _line(f"breaker_hints.{word}", "warning", "reason", text)
            for word, text in (
                ("lost", "What shares openings between replicas can't be reached."),
                ("recovered", "It can again."),
            )
        ),
        _line("breaker_hints.heeded", "warning", "provider", "Another replica has opened it."),
        _line("bulkhead.limit", "info", "provider limit", "An adaptive limit has moved."),
        _line(
            "provider.unreachable",
            "warning",
            "provider reason unsaid_before",
            "No connection to it can be made; said once in a while.",
        ),
        _line("probe.failed", "error", "", "A probe has a bug."),
        # of what the gateway does as a whole
        _line("admission.shedding", "warning", "shed_level", "Work is turned away, or no longer."),
        *(
            _line(f"drain.{phase}", "warning", "in_flight", text)
            for phase, text in (
                ("leaving", "It is no longer ready, and still serves."),
                ("draining", "New work is refused."),
                ("drained", "All that was in flight has ended."),
                ("overdue", "What took too long was ended."),
            )
        ),
        _line("jwt.clocks_differ", "warning", "issuer_ahead_s", "The issuer's clock is not ours."),
        _line("jwt.clocks_agree", "warning", "", "It is again."),
        _line("jwt.keys_lost", "warning", "reason", "The issuer's keys can't be had."),
        _line("jwt.keys_recovered", "warning", "", "They can again."),
        _line("log.dropped", "warning", "lines", "So many lines are missing here."),
        # of secrets
        _line(
            "secrets.rotated",
            "warning",
            "changed",
            "Other secrets are in force: where they stand and what they are read from.",
            always=True,
        ),
        _line(
            "secrets.refused",
            "warning",
            "changed reason",
            "Other secrets could not be put in force; those before them serve.",
            always=True,
        ),
        _line("secrets.failed", "warning", "", "The secrets store can't be read."),
        _line("secrets.recovered", "warning", "", "It can again."),
        _line("secrets.expired", "error", "age_s", "What is known of it is too old to serve."),
        _line(
            "secrets.unreadable",
            "warning",
            "reference",
            "A reference gives no secret that can be used; its last one serves.",
        ),
        _line("secrets.readable", "warning", "reference", "It does again."),
        _line(
            "secrets.needs_restart",
            "warning",
            "changed",
            "Secrets have changed that a running process can't take up.",
        ),
        _line("secrets.unsealed", "warning", "", "The sealed file can't be written."),
        _line("secrets.look_failed", "error", "", "Looking after secrets has a bug."),
        # of limits
        _line(
            "rate_limit.memory_per_replica",
            "warning",
            "replicas",
            "Each replica counts for itself, so callers get more than their limits.",
        ),
        _line(
            "rate_limit.storage_lost",
            "warning",
            "reason policy",
            "The limits' storage does not answer.",
        ),
        _line("rate_limit.storage_recovered", "warning", "", "It does again."),
        _line("rate_limit.look_failed", "debug", "", "What a key has spent could not be asked."),
        _line("rate_limit.budgets_unknown", "warning", "", "What budgets have spent is not known."),
        _line("rate_limit.budgets_known", "warning", "", "It is again."),
        _line(
            "tracing.opt_in_unknown",
            "warning",
            "word known",
            "A word of OTEL_SEMCONV_STABILITY_OPT_IN is nearly one of ours, and ignored.",
        ),
        # of the incident app
        _line(
            "incident.changed",
            "info",
            "incident what severity state",
            "What became of an incident.",
        ),
        _line(
            "incident.message_delayed",
            "warning",
            "destination subject reason attempts",
            "A message is to be tried again.",
        ),
        _line(
            "incident.message_failed",
            "error",
            "destination subject reason",
            "A message will never arrive.",
        ),
        _line(
            "incident.message_lost",
            "error",
            "destination subject",
            "So many messages wait already that this one was left out.",
        ),
        _line("incident.sender_failed", "error", "", "What sends messages has a bug."),
        _line("incident.store_unavailable", "error", "reason", "The store does not answer."),
        # of the usage ledger
        _line("sql.statement", "debug", "statement", "A statement to the database; in `local`."),
        _line("usage.ledger_unavailable", "warning", "", "The ledger takes no rows."),
        _line("usage.ledger_recovered", "warning", "", "It does again."),
        _line("usage.row_unstorable", "error", "", "A row that the ledger can't store."),
        _line("usage.records_lost", "warning", "", "Rows that never reached the ledger."),
        _line("usage.expired", "info", "rows", "Rows and roll-ups that were too old are deleted."),
        _line("usage.journal_unavailable", "warning", "", "The journal can't be written."),
        _line("usage.journal_recovered", "warning", "", "It can again."),
        _line("usage.journal_brought_in", "warning", "rows", "Rows of a process that was killed."),
        _line("usage.journal_unreadable", "warning", "", "A part of the journal is no rows."),
        _line("usage.journal_unremovable", "warning", "", "A part of it can't be removed."),
    )
}
"""All lines, by name. Lines of other libraries have the same schema, and their logger's name in
the field `logger`."""
