"""The metrics of the incident app, declared once; the requests' are the gateway's own."""

from __future__ import annotations

from typing import Final, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

from radgateway.incident.notices import Destination
from radgateway.incident.severity import SEVERITIES
from radgateway.telemetry.declared import Declared

NOTIFICATIONS: Final = ("opened", "updated", "reopened", "ignored")
MESSAGES: Final = ("delivered", "delayed", "failed", "lost")

INCIDENT_METRICS: Final[dict[str, Declared]] = {
    metric.name.removeprefix("rad_incident_"): metric
    for metric in (
        Declared("rad_incident_open", "gauge", ("severity",), "Incidents that are not over."),
        Declared(
            "rad_incident_notifications_total",
            "counter",
            ("outcome",),
            "Notifications of Alertmanager, by what they came to.",
        ),
        Declared(
            "rad_incident_messages_total",
            "counter",
            ("destination", "outcome"),
            "Tries to send a message, by what they came to; lost where too many wait.",
        ),
    )
}


class IncidentInstruments:
    """The metrics, in the registry of the app's others."""

    def __init__(self, registry: CollectorRegistry) -> None:
        named = INCIDENT_METRICS
        self._open = _gauge(named["open"], registry)
        self._notifications = _counter(named["notifications_total"], registry)
        self._messages = _counter(named["messages_total"], registry)
        for outcome in NOTIFICATIONS:
            self._notifications.labels(outcome)
        for destination in get_args(Destination):
            for outcome in MESSAGES:
                self._messages.labels(destination, outcome)
        self.opened({})

    def opened(self, counts: dict[str, int]) -> None:
        """Show how many are open, by severity."""
        for severity in SEVERITIES:
            self._open.labels(severity).set(counts.get(severity, 0))

    def notified(self, outcome: str) -> None:
        """Count a notification of Alertmanager."""
        self._notifications.labels(outcome).inc()

    def sent(self, destination: Destination, outcome: str) -> None:
        """Count a try to send a message."""
        self._messages.labels(destination, outcome).inc()


def _gauge(declared: Declared, registry: CollectorRegistry) -> Gauge:
    return Gauge(declared.name, declared.help, declared.labels, registry=registry)


def _counter(declared: Declared, registry: CollectorRegistry) -> Counter:
    return Counter(declared.name, declared.help, declared.labels, registry=registry)
