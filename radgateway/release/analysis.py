"""Argo's AnalysisTemplate, as far as it is judged here: the same file that the cluster gets.

What this does not know (other providers, dry runs, references to secrets) is an error with its
line: a canary must not be judged by a part of its template.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from radgateway.config.bind import Binder
from radgateway.config.problems import ConfigError, Problem, Report
from radgateway.config.tree import (
    MAX_BYTES,
    Node,
    NotYaml,
    is_null,
    note_places,
    parse_yaml,
)
from radgateway.release.condition import Condition

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_ARGUMENT = re.compile(r"\{\{\s*args\.([\w-]+)\s*\}\}")
_BETWEEN = re.compile(r"^---[ \t]*\r?\n", re.MULTILINE)
"""What stands between two documents; in no block can a line begin so."""
_METRICS_MAX: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """A parameter of the template, with a default or without."""

    name: str
    value: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrometheusQuery:
    """What is asked, and where."""

    query: str
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Who is asked."""

    prometheus: PrometheusQuery


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One criterion. Raises `ValueError`: the field and what is wrong."""

    name: str
    provider: Provider
    interval: str = ""
    initialDelay: str = ""
    count: int | None = None
    """Measurements in all; None goes on for as long as the canary does."""
    failureLimit: int = 0
    inconclusiveLimit: int = 0
    consecutiveErrorLimit: int = 4
    """Argo's defaults."""
    successCondition: str = ""
    failureCondition: str = ""

    def __post_init__(self) -> None:
        for name in ("interval", "initialDelay"):
            if (text := getattr(self, name)) and not is_duration(text):
                raise ValueError(f"{name} must be a duration such as 30s or 1m30s, not {text!r}")
        if self.count is not None and self.count < 1:
            raise ValueError(f"count must be 1 or more, not {self.count}")
        for name in ("failureLimit", "inconclusiveLimit", "consecutiveErrorLimit"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more")
        if self.interval and duration_s(self.interval) <= 0:
            raise ValueError("interval must be over 0")
        if not self.interval and (self.count or 1) > 1:
            raise ValueError("interval is missing: more than one measurement needs it")
        if not self.successCondition and not self.failureCondition:
            # Argo would call every measurement a success.
            raise ValueError("successCondition or failureCondition must be there")

    @property
    def measurements(self) -> int | None:
        """How many there are in all; None goes on. Without an interval it is one."""
        return self.count if self.interval else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Metadata:
    name: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spec:
    metrics: tuple[Metric, ...]
    args: tuple[Argument, ...] = field(default=())

    def __post_init__(self) -> None:
        if not 1 <= len(self.metrics) <= _METRICS_MAX:
            raise ValueError(f"metrics must hold 1 to {_METRICS_MAX}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Template:
    apiVersion: Literal["argoproj.io/v1alpha1"]
    kind: Literal["analysistemplate", "clusteranalysistemplate"]
    metadata: _Metadata
    spec: _Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """A metric with its arguments filled in and its conditions read."""

    metric: Metric
    query: str
    address: str
    success: Condition | None
    failure: Condition | None


def load_templates(files: Sequence[Path], arguments: Mapping[str, str]) -> list[Criterion]:
    """The criteria of some files. Raises `ConfigError`, or `ValueError` for their arguments."""
    templates = [template for file in files for template in _load(file)]
    if not templates:
        raise ValueError("there is no AnalysisTemplate in the files")
    known = {argument.name for template in templates for argument in template.spec.args}
    if unknown := arguments.keys() - known:
        names = ", ".join(sorted(known)) or "none"
        raise ValueError(f"no template has the argument {min(unknown)!r}; there are: {names}")
    criteria = []
    for template in templates:
        defaults = {a.name: a.value for a in template.spec.args if a.value is not None}
        filled = {**defaults, **arguments}
        criteria += [_criterion(metric, filled) for metric in template.spec.metrics]
    return criteria


def is_duration(text: str) -> bool:
    """Whether it is one as Go writes it."""
    return _DURATION.fullmatch(text) is not None


def duration_s(text: str) -> float:
    """Seconds of a duration as Go writes it: `1m30s`; 0 where it is empty."""
    return sum(float(value) * _UNITS_S[unit] for value, unit in _PART.findall(text))


def _load(file: Path) -> list[_Template]:
    """The templates of a file, which may hold several documents."""
    templates = []
    for root in _documents(file):
        report = Report()
        note_places(root, report)
        template = Binder(report).section(_Template, root)
        report.raise_if_any()
        assert isinstance(template, _Template)
        templates.append(template)
    return templates


def _documents(file: Path) -> Iterator[Node]:
    def wrong(message: str, line: int | None = None) -> ConfigError:
        return ConfigError([Problem("", line, message, str(file))])

    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_BYTES + 1).decode()
    except OSError as error:
        raise wrong(f"can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise wrong("is not UTF-8 text") from None
    line = 1
    for part in _BETWEEN.split(text):
        try:
            root = parse_yaml(part, str(file), first_line=line)
        except NotYaml as error:
            raise wrong(str(error), error.line) from None
        except ImportError:
            raise wrong('needs PyYAML to be read: pip install "radgateway[server]"') from None
        if not is_null(root):
            yield root
        line += part.count("\n") + 1


def _criterion(metric: Metric, arguments: Mapping[str, str]) -> Criterion:
    def filled(text: str) -> str:
        return _filled(text, arguments, metric.name)

    def condition(text: str) -> Condition | None:
        return Condition(filled(text)) if text else None

    return Criterion(
        metric=metric,
        query=filled(metric.provider.prometheus.query),
        address=filled(metric.provider.prometheus.address),
        success=condition(metric.successCondition),
        failure=condition(metric.failureCondition),
    )


def _filled(text: str, arguments: Mapping[str, str], metric: str) -> str:
    def value(found: re.Match[str]) -> str:
        if found[1] not in arguments:
            raise ValueError(f"{metric}: {found[1]} has no value; give --arg {found[1]}=VALUE")
        return arguments[found[1]]

    text = _ARGUMENT.sub(value, text)
    if "{{" in text:
        raise ValueError(f"{metric}: only {{{{args.NAME}}}} is known between braces")
    return text
