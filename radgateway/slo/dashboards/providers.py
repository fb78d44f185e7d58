"""The provider dashboard, for capacity planning: who is fast, who is reliable, and the price."""

from __future__ import annotations

from radgateway.slo.dashboards.board import Board, Choice, Row
from radgateway.slo.dashboards.panel import BAD, NEUTRAL, Panel, Query
from radgateway.slo.dashboards.promql import gauge, grown, mean, quantile, rate, ratio, ratio_shown

_CHOSEN = 'provider=~"$provider"'
_CHOSEN_MODEL = f'{_CHOSEN},model=~"$model"'
_ATTEMPTS = f'{_CHOSEN_MODEL},status!="499"'
_GOOD = f'{_CHOSEN_MODEL},status=~"2.."'


def providers() -> Board:
    """The dashboard; it needs no objectives."""
    return Board(
        uid="radgateway-providers",
        title="RAD Gateway / Providers",
        reader="For planning: who is fast, who is reliable, how much goes through, at what price?",
        since="now-24h",
        choices=(
            Choice(label="provider", title="Provider", metric="provider_requests_total"),
            Choice(label="model", title="Model", metric="provider_requests_total"),
        ),
        rows=(
            Row("Latency", _latency()),
            Row("Success", _success()),
            Row("Tokens", _tokens()),
            Row("Cost", _cost()),
            Row("Capacity", _capacity()),
        ),
    )


def _latency() -> tuple[Panel, ...]:
    return (
        *(
            Panel(
                title=f"Latency by provider, p{100 * share:g}",
                answers=f"{meaning} From an attempt's start to its last byte. Points are traces.",
                unit="s",
                queries=(
                    Query(
                        expr=quantile(share, "provider_latency_seconds", "provider", _CHOSEN),
                        legend="{{provider}}",
                        exemplar=True,
                    ),
                ),
                nothing="no attempts",
            )
            for share, meaning in (
                (0.5, "What is usual."),
                (0.95, "What one call in twenty is worse than."),
                (0.99, "What the unluckiest get; where timeouts should be set above."),
            )
        ),
        Panel(
            title="Mean latency",
            answers="Times the attempts per second it is how many calls are in progress.",
            unit="s",
            queries=(
                Query(
                    expr=mean("provider_latency_seconds", "provider", _CHOSEN),
                    legend="{{provider}}",
                ),
            ),
            width=12,
            nothing="no attempts",
        ),
        Panel(
            title="Calls in progress, on average",
            answers=(
                "By Little's law, from the time that attempts took; compare with the places there "
                "are at each provider."
            ),
            unit="short",
            queries=(
                Query(
                    expr=(
                        f"{mean('provider_latency_seconds', 'provider', _CHOSEN)}"
                        f" * {rate('provider_requests_total', 'provider', _CHOSEN)}"
                    ),
                    legend="{{provider}}",
                ),
            ),
            width=12,
            nothing="no attempts",
        ),
    )


def _success() -> tuple[Panel, ...]:
    return (
        Panel(
            title="Success rate by provider",
            answers=(
                "Share of attempts that succeeded. Those abandoned because the client left or "
                "another won are left out."
            ),
            unit="percentunit",
            queries=(
                Query(
                    expr=ratio("provider_requests_total", "provider", _GOOD, _ATTEMPTS),
                    legend="{{provider}}",
                ),
            ),
            most=1,
            steps=((None, BAD), (0.9, NEUTRAL)),
            nothing="no attempts",
        ),
        Panel(
            title="Success rate by model",
            answers="The same by model: one may be overloaded while its siblings are well.",
            unit="percentunit",
            queries=(
                Query(
                    expr=ratio("provider_requests_total", "provider, model", _GOOD, _ATTEMPTS),
                    legend="{{provider}} {{model}}",
                ),
            ),
            most=1,
            steps=((None, BAD), (0.9, NEUTRAL)),
            nothing="no attempts",
        ),
        Panel(
            title="Attempts by provider and status",
            answers="What providers answer: 429 is a quota, 5xx an outage, 401 a key of ours.",
            unit="reqps",
            queries=(
                Query(
                    expr=rate("provider_requests_total", "provider, status", _CHOSEN_MODEL),
                    legend="{{provider}} {{status}}",
                ),
            ),
            nothing="no attempts",
        ),
        Panel(
            title="Success rate in the time shown",
            answers="One number for each provider, as a contract would ask for.",
            unit="percentunit",
            queries=(
                Query(
                    expr=ratio_shown("provider_requests_total", "provider", _GOOD, _ATTEMPTS),
                    legend="{{provider}}",
                ),
            ),
            kind="bargauge",
            width=12,
            most=1,
            decimals=2,
            nothing="no attempts",
        ),
        Panel(
            title="Share of attempts",
            answers="How traffic is spread over the providers, as weights and failover made it.",
            unit="percentunit",
            queries=(
                Query(
                    expr=f"{rate('provider_requests_total', 'provider', _CHOSEN_MODEL)}"
                    " / ignoring (provider) group_left ()"
                    f" ({rate('provider_requests_total', '', _CHOSEN_MODEL)} > 0)",
                    legend="{{provider}}",
                ),
            ),
            width=12,
            stacked=True,
            most=1,
            nothing="no attempts",
        ),
    )


def _tokens() -> tuple[Panel, ...]:
    return (
        Panel(
            title="Token throughput",
            answers="Tokens per second by provider, prompts and answers apart.",
            unit="short",
            queries=(
                Query(
                    expr=rate(
                        "provider_tokens_total",
                        "provider, type",
                        f'{_CHOSEN_MODEL},type=~"input|output"',
                    ),
                    legend="{{provider}} {{type}}",
                ),
            ),
            nothing="no tokens",
        ),
        Panel(
            title="Token throughput by model",
            answers="Which models the tokens are of.",
            unit="short",
            queries=(
                Query(
                    expr=rate(
                        "provider_tokens_total",
                        "model",
                        f'{_CHOSEN_MODEL},type=~"input|output"',
                    ),
                    legend="{{model}}",
                ),
            ),
            stacked=True,
            nothing="no tokens",
        ),
        Panel(
            title="Tokens per attempt",
            answers="How large prompts and answers are: what makes latency and cost move.",
            unit="short",
            queries=(
                Query(
                    expr=(
                        rate(
                            "provider_tokens_total",
                            "provider, type",
                            f'{_CHOSEN_MODEL},type=~"input|output"',
                        )
                        + " / on (provider) group_left () "
                        + f"({rate('provider_requests_total', 'provider', _GOOD)} > 0)"
                    ),
                    legend="{{provider}} {{type}}",
                ),
            ),
            nothing="no tokens",
        ),
    )


def _cost() -> tuple[Panel, ...]:
    return (
        Panel(
            title="Cost per provider",
            answers="US dollars per hour at the present pace, of attempts whose price is known.",
            unit="currencyUSD",
            queries=(
                Query(
                    expr=f"{rate('cost_usd_total', 'provider', _CHOSEN_MODEL)} * 3600",
                    legend="{{provider}}",
                ),
            ),
            stacked=True,
            nothing="no prices",
        ),
        Panel(
            title="Cost in the time shown",
            answers="What each provider has cost, as far as prices are known.",
            unit="currencyUSD",
            queries=(
                Query(
                    expr=grown("cost_usd_total", "provider", _CHOSEN_MODEL), legend="{{provider}}"
                ),
            ),
            kind="bargauge",
            nothing="no prices",
        ),
        Panel(
            title="Cost of a thousand attempts",
            answers="Who is dear for the work that is really sent there.",
            unit="currencyUSD",
            queries=(
                Query(
                    expr=f"{grown('cost_usd_total', 'provider', _CHOSEN_MODEL)} * 1000"
                    f" / ({grown('provider_requests_total', 'provider', _GOOD)} > 0)",
                    legend="{{provider}}",
                ),
            ),
            kind="bargauge",
            nothing="no prices",
        ),
    )


def _capacity() -> tuple[Panel, ...]:
    return (
        Panel(
            title="Places at each provider",
            answers="Calls that may be in progress there; an adaptive limit shows what it learnt.",
            unit="short",
            queries=(
                Query(expr=gauge("concurrency_limit", "provider", _CHOSEN), legend="{{provider}}"),
            ),
            guide="components/bulkhead",
            nothing="no limits",
        ),
        Panel(
            title="Refused by the provider's quota",
            answers="Attempts answered with a 429: ask for more quota, or send less.",
            unit="reqps",
            queries=(
                Query(
                    expr=rate(
                        "provider_requests_total",
                        "provider, model",
                        f'{_CHOSEN_MODEL},status="429"',
                    ),
                    legend="{{provider}} {{model}}",
                ),
            ),
            nothing="none",
        ),
        Panel(
            title="Traffic it took over, and gave up",
            answers="Failovers to a provider, and away from it: who is whose reserve.",
            unit="reqps",
            queries=(
                Query(
                    expr=rate(
                        "failover_attempts_total",
                        "target_provider",
                        'target_provider=~"$provider"',
                    ),
                    legend="to {{target_provider}}",
                ),
                Query(
                    expr=rate(
                        "failover_attempts_total",
                        "source_provider",
                        'source_provider=~"$provider"',
                    ),
                    legend="from {{source_provider}}",
                ),
            ),
            nothing="none",
        ),
    )
