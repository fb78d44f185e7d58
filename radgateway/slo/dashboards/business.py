"""The business dashboard, the product view: who uses what, and what goes wrong for them."""

from __future__ import annotations

from radgateway.slo.dashboards.board import Board, Choice, Row
from radgateway.slo.dashboards.logs import error_codes
from radgateway.slo.dashboards.panel import Panel, Query
from radgateway.slo.dashboards.promql import grown, rate, ratio_shown, top

_CHOSEN = 'model=~"$model"'
_NAMED = 'api_key_name!=""'
_PRIVACY = "Only where `telemetry.key_names_in_metrics` is on."


def business() -> Board:
    """The dashboard; it needs no objectives."""
    return Board(
        uid="radgateway-business",
        title="RAD Gateway / Business",
        reader="For the product: who uses what, how much, and what goes wrong for them?",
        since="now-7d",
        refresh="5m",
        choices=(Choice(label="model", title="Model", metric="tokens_consumed_total"),),
        rows=(
            Row("In the time shown", _totals()),
            Row("Callers", _callers()),
            Row("Models", _models()),
            Row("Tokens and money", _tokens()),
            Row("Errors", _errors()),
        ),
    )


def _totals() -> tuple[Panel, ...]:
    return (
        _total("Requests", "How many requests were answered.", "short", grown("requests_total")),
        _total(
            "Answered well",
            "Share of all requests that got what they asked for, whoever's fault the rest was.",
            "percentunit",
            ratio_shown("requests_total", "", 'status=~"2.."'),
        ),
        _total(
            "Tokens",
            "Input and output tokens of all attempts.",
            "short",
            grown("tokens_consumed_total", "", _CHOSEN),
        ),
        _total(
            "Cost",
            "US dollars of attempts whose price is known.",
            "currencyUSD",
            grown("cost_usd_total", "", _CHOSEN),
        ),
    )


def _callers() -> tuple[Panel, ...]:
    return (
        Panel(
            title="Requests by API key",
            answers=f"Who uses the gateway, the ten busiest keys. {_PRIVACY}",
            unit="reqps",
            queries=(
                Query(
                    expr=top(10, rate("key_requests_total", "api_key_name")),
                    legend="{{api_key_name}}",
                ),
            ),
            stacked=True,
            nothing="key names are not shown",
        ),
        Panel(
            title="Requests by API key in the time shown",
            answers=f"The same as totals. {_PRIVACY}",
            unit="short",
            queries=(
                Query(
                    expr=top(10, grown("key_requests_total", "api_key_name")),
                    legend="{{api_key_name}}",
                ),
            ),
            kind="bargauge",
            nothing="key names are not shown",
        ),
        Panel(
            title="Requests that failed, by API key",
            answers=f"Whose requests end badly, and how. {_PRIVACY}",
            unit="reqps",
            queries=(
                Query(
                    expr=top(
                        10,
                        rate("key_requests_total", "api_key_name, outcome", 'outcome!="success"'),
                    ),
                    legend="{{api_key_name}}: {{outcome}}",
                ),
            ),
            nothing="none",
        ),
    )


def _models() -> tuple[Panel, ...]:
    return (
        Panel(
            title="Model popularity",
            answers="Which models are called, by attempts per second.",
            unit="reqps",
            queries=(
                Query(expr=rate("provider_requests_total", "model", _CHOSEN), legend="{{model}}"),
            ),
            width=12,
            stacked=True,
            nothing="no requests",
        ),
        Panel(
            title="Model popularity in the time shown",
            answers="The ten models that were called most.",
            unit="short",
            queries=(
                Query(
                    expr=top(10, grown("provider_requests_total", "model", _CHOSEN)),
                    legend="{{model}}",
                ),
            ),
            kind="bargauge",
            width=6,
            nothing="no requests",
        ),
        Panel(
            title="Requests by route",
            answers="Which part of the API is used: chat, embeddings, images, audio.",
            unit="short",
            queries=(Query(expr=top(10, grown("requests_total", "route")), legend="{{route}}"),),
            kind="bargauge",
            width=6,
        ),
    )


def _tokens() -> tuple[Panel, ...]:
    return (
        Panel(
            title="Token consumption by model",
            answers="How consumption moves over days, and which model moves it.",
            unit="short",
            queries=(
                Query(
                    expr=f"{rate('tokens_consumed_total', 'model', _CHOSEN)} * 3600",
                    legend="{{model}} per hour",
                ),
            ),
            stacked=True,
            nothing="no tokens",
        ),
        Panel(
            title="Token consumption by API key",
            answers=f"Who spends the tokens, the ten largest. {_PRIVACY}",
            unit="short",
            queries=(
                Query(
                    expr=top(
                        10,
                        f"{rate('tokens_consumed_total', 'api_key_name', f'{_CHOSEN},{_NAMED}')}"
                        " * 3600",
                    ),
                    legend="{{api_key_name}} per hour",
                ),
            ),
            stacked=True,
            nothing="key names are not shown",
        ),
        Panel(
            title="Tokens by kind",
            answers=(
                "Prompts against answers, and how much of them came from caches and went into "
                "reasoning: what prices depend on."
            ),
            unit="short",
            queries=(
                Query(
                    expr=f"{rate('provider_tokens_total', 'type', _CHOSEN)} * 3600",
                    legend="{{type}} per hour",
                ),
            ),
            nothing="no tokens",
        ),
        Panel(
            title="Cost by model",
            answers="US dollars per day at the present pace, of attempts whose price is known.",
            unit="currencyUSD",
            queries=(
                Query(
                    expr=f"{rate('cost_usd_total', 'model', _CHOSEN)} * 86400",
                    legend="{{model}} per day",
                ),
            ),
            width=12,
            stacked=True,
            nothing="no prices",
        ),
        Panel(
            title="Cost by model in the time shown",
            answers="What each model has cost.",
            unit="currencyUSD",
            queries=(
                Query(expr=top(10, grown("cost_usd_total", "model", _CHOSEN)), legend="{{model}}"),
            ),
            kind="bargauge",
            width=12,
            nothing="no prices",
        ),
    )


def _errors() -> tuple[Panel, ...]:
    return (
        Panel(
            title="Error types",
            answers="What callers are answered with when it is not what they asked for.",
            unit="reqps",
            queries=(
                Query(
                    expr=rate("requests_total", "status", 'status=~"[45].."'), legend="{{status}}"
                ),
            ),
            width=12,
            stacked=True,
        ),
        error_codes(),
        Panel(
            title="Refused by the gateway, by reason",
            answers="Credentials, limits and load: what callers could change, or pay for.",
            unit="reqps",
            queries=(
                Query(expr=rate("auth_failures_total", "reason"), legend="{{reason}}"),
                Query(
                    expr=rate("rate_limited_total", "reason", 'reason!~"shadow_.*"'),
                    legend="limit: {{reason}}",
                ),
                Query(expr=rate("load_shed_total", "reason"), legend="load: {{reason}}"),
            ),
            width=12,
            guide="reference/errors",
        ),
        Panel(
            title="Answers broken off",
            answers="Responses cut after they had begun: what a user sees as half an answer.",
            unit="reqps",
            queries=(Query(expr=rate("responses_interrupted_total", "route"), legend="{{route}}"),),
            width=12,
            nothing="none",
        ),
    )


def _total(title: str, answers: str, unit: str, expr: str) -> Panel:
    return Panel(
        title=title,
        answers=answers,
        unit=unit,
        queries=(Query(expr=expr),),
        kind="stat",
        width=6,
        height=4,
    )
