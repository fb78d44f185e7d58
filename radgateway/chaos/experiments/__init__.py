"""The experiments, in the order of the strategy's 8.1, one on PostgreSQL, and one from its 2.2."""

from __future__ import annotations

from radgateway.chaos.experiment import Experiment
from radgateway.chaos.experiments.certificate_expiry import CERTIFICATE_EXPIRY
from radgateway.chaos.experiments.clock_skew import CLOCK_SKEW
from radgateway.chaos.experiments.database import DATABASE
from radgateway.chaos.experiments.database_postgres import DATABASE_POSTGRES
from radgateway.chaos.experiments.high_concurrency import HIGH_CONCURRENCY
from radgateway.chaos.experiments.memory_pressure import MEMORY_PRESSURE
from radgateway.chaos.experiments.provider_failure import PROVIDER_FAILURE
from radgateway.chaos.experiments.provider_latency import PROVIDER_LATENCY
from radgateway.chaos.experiments.replica_kill import REPLICA_KILL
from radgateway.chaos.experiments.retry_budget import RETRY_BUDGET
from radgateway.chaos.experiments.secrets_store import SECRETS_STORE

EXPERIMENTS: tuple[Experiment, ...] = (
    PROVIDER_LATENCY,
    PROVIDER_FAILURE,
    RETRY_BUDGET,
    REPLICA_KILL,
    SECRETS_STORE,
    MEMORY_PRESSURE,
    DATABASE,
    DATABASE_POSTGRES,
    CERTIFICATE_EXPIRY,
    CLOCK_SKEW,
    HIGH_CONCURRENCY,
)


def find(name: str) -> Experiment | None:
    """An experiment by its name."""
    return next((experiment for experiment in EXPERIMENTS if experiment.name == name), None)
