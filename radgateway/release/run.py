"""Each question of `radgateway release`, from its options to an exit code."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

    from radgateway.release.attested import Attested
    from radgateway.release.finding import Judgement, Reading
    from radgateway.release.measures import Row
    from radgateway.release.prometheus import Prometheus
    from radgateway.release.thresholds import Thresholds

Options = argparse.Namespace
_NOBODY = "no Prometheus was asked; give --prometheus URL"


def _answer(judge: Callable[[Options], Judgement]) -> Callable[[Options], int]:
    """A command that prints a judgement and exits by it; 2 where the arguments can't be used."""

    def answer(options: Options) -> int:
        from radgateway.config import ConfigError  # noqa: PLC0415 - heavy, as all below
        from radgateway.release.show import as_json, as_text  # noqa: PLC0415

        try:
            judgement = judge(options)
        except ConfigError:
            raise
        except ValueError as error:
            sys.stderr.write(f"radgateway: {error}\n")
            return 2
        except KeyboardInterrupt:
            sys.stderr.write("radgateway: interrupted; nothing was judged\n")
            return 2
        sys.stdout.write((as_json if options.json else as_text)(judgement))
        return judgement.exit_code

    return answer


@_answer
def gate(options: Options) -> Judgement:
    """`gate FROM TO`."""
    from radgateway.release import gate as gates  # noqa: PLC0415

    said = _attested(options)
    asked = gates.gate(options.source, options.target)
    queries = gates.queries(asked, said)
    return gates.judge(options.source, options.target, said, _figures(options, queries, said.now))


@_answer
def go_no_go(options: Options) -> Judgement:
    """`go-no-go`."""
    from radgateway.release import go_no_go as going  # noqa: PLC0415

    said = _attested(options)
    return going.judge(said, _figures(options, going.queries(said), said.now))


@_answer
def exit_criteria(options: Options) -> Judgement:
    """`exit-criteria`."""
    from radgateway.release import exit_criteria as leaving  # noqa: PLC0415
    from radgateway.release.incidents import p1_tally  # noqa: PLC0415

    said = _attested(options)
    figures = _rows(options, leaving.queries(said.thresholds), said.now)
    with _incidents(options) as asked:
        days = said.thresholds.exit.availability_days
        return leaving.judge(said, figures, None if asked is None else p1_tally(asked, days))


@_answer
def rollback_check(options: Options) -> Judgement:
    """`rollback-check`."""
    from radgateway.release import rollback  # noqa: PLC0415
    from radgateway.release.incidents import open_incidents  # noqa: PLC0415
    from radgateway.release.measures import of_job, of_track  # noqa: PLC0415

    limits = _thresholds(options)
    job, track = limits.job, options.track
    tracks = of_job(job) if track is None else of_track(job, track)
    figures = _rows(options, rollback.queries(tracks), _now(options))
    with _incidents(options) as asked:
        incidents = None if asked is None else open_incidents(asked)
        return rollback.judge(figures, incidents, limits.rollback)


@_answer
def canary(options: Options) -> Judgement:
    """`canary`. Progress goes to standard error, so that standard output is the verdict."""
    from radgateway.release.analysis import load_templates  # noqa: PLC0415
    from radgateway.release.canary import Canary  # noqa: PLC0415
    from radgateway.release.connection import client  # noqa: PLC0415
    from radgateway.release.prometheus import Prometheus  # noqa: PLC0415
    from radgateway.release.watch import watch  # noqa: PLC0415

    criteria = load_templates(options.template, dict(options.arg))
    course = Canary(criteria)
    with contextlib.ExitStack() as stack:
        ask = {}
        for address in {criterion.address for criterion in criteria}:
            url = options.prometheus or address
            if not url:
                raise ValueError("a template names no address: give --prometheus URL")
            made = client("--prometheus", url, options.prometheus_token, os.environ)
            ask[address] = Prometheus(stack.enter_context(made))
        watch(course, ask, _progress, options.for_s)
    return course.judgement()


@_answer
def window(options: Options) -> Judgement:
    """`window [ENVIRONMENT]`."""
    from radgateway.release.opening import (  # noqa: PLC0415
        judge,
        window_finding,
        window_findings,
    )

    environment = options.environment
    if options.evidence is None:
        windows = _thresholds(options).windows
        return judge(environment, [window_finding(environment, windows, _now(options))])
    said = _attested(options)
    approvals = said.approved() if said.evidence.type == "hotfix" else []
    return judge(environment, [*window_findings(environment, said), *approvals])


def evidence(options: Options) -> int:
    """`evidence [FILE]`."""
    from radgateway.release.evidence import load_evidence  # noqa: PLC0415
    from radgateway.release.evidence_form import FORM  # noqa: PLC0415

    if options.file is None:
        sys.stdout.write(FORM)
        return 0
    found = load_evidence(options.file)
    sys.stdout.write(f"{options.file}: evidence of {found.version} ({found.type})\n")
    return 0


def _attested(options: Options) -> Attested:
    from radgateway.release.attested import Attested  # noqa: PLC0415
    from radgateway.release.evidence import load_evidence  # noqa: PLC0415

    found = load_evidence(options.evidence)
    wanted = getattr(options, "version", None)
    if wanted is not None and wanted != found.version:
        raise ValueError(f"the evidence is of version {found.version}, not of {wanted}")
    return Attested(found, _thresholds(options), _now(options))


def _thresholds(options: Options) -> Thresholds:
    from radgateway.release.thresholds import load_thresholds  # noqa: PLC0415

    return load_thresholds(options.thresholds)


def _now(options: Options) -> datetime:
    from radgateway.usage.moment import moment  # noqa: PLC0415

    if options.at is None:
        return datetime.now(UTC)
    try:
        return datetime.fromtimestamp(moment(options.at, time.time()), UTC)
    except ValueError as error:
        raise ValueError(f"--at {error}") from None


def _figures(options: Options, queries: dict[str, str], now: datetime) -> dict[str, Reading]:
    """What Prometheus answers to each query."""
    from radgateway.release.finding import Unmeasured  # noqa: PLC0415

    with _prometheus(options) as asked:
        if asked is None:
            return dict.fromkeys(queries, Unmeasured(_NOBODY))
        return {name: asked.reading(each, now.timestamp()) for name, each in queries.items()}


def _rows(options: Options, queries: dict[str, Row], now: datetime) -> dict[str, list[Reading]]:
    """What Prometheus answers to each query at each of its moments."""
    from radgateway.release.finding import Unmeasured  # noqa: PLC0415

    with _prometheus(options) as asked:
        if asked is None:
            return {name: [Unmeasured(_NOBODY)] * row.steps for name, row in queries.items()}
        return {
            name: asked.row(row.expr, now.timestamp(), row.step_s, row.steps)
            for name, row in queries.items()
        }


@contextlib.contextmanager
def _prometheus(options: Options) -> Iterator[Prometheus | None]:
    from radgateway.release.connection import client  # noqa: PLC0415
    from radgateway.release.prometheus import Prometheus  # noqa: PLC0415

    if options.prometheus is None:
        yield None
        return
    token = options.prometheus_token
    with client("--prometheus", options.prometheus, token, os.environ) as made:
        yield Prometheus(made)


@contextlib.contextmanager
def _incidents(options: Options) -> Iterator[httpx.Client | None]:
    from radgateway.release.connection import client  # noqa: PLC0415

    if options.incidents is None:
        yield None
        return
    with client("--incidents", options.incidents, options.incidents_token, os.environ) as made:
        yield made


def _progress(line: str) -> None:
    from radgateway.release.show import plain  # noqa: PLC0415

    sys.stderr.write(plain(line) + "\n")
    sys.stderr.flush()
