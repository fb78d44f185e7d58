"""The SLO pack: alerts, dashboards and the stack around them, made from one definition.

    objectives.py    what is promised, and the arithmetic of error budgets
    settings.py      what can be set: objectives, addresses, the name of the job
    settings_file.py the same from a YAML file
    promql.py        numbers, windows and buckets as PromQL writes them
    rules.py         recording rules
    alerts.py        the alerts: the strategy's nine, burn rates, and what watches the watchers
    triggers.py      what ends a release: the strategy's rollback triggers, and a canary's judgement
    cases.py         tests of the rules, in promtool's form
    traffic.py       the series they measure
    alert_cases.py   that each alert fires and stays silent, at its boundary
    burn_cases.py    the same for burn rates and budgets
    record_cases.py  that the recorded ratios are what they say
    routing.py       Alertmanager: who is told, how urgently, and what is left out
    templates.py     the words of a notification
    dashboards/      Grafana's dashboards: boards, panels and the expressions in them
    stack.py         names and ports of the stack's parts, and how their files begin
    compose.py       all parts on one machine, with the gateway and what it needs
    prometheus.py    whom Prometheus asks, and by which rules
    grafana.py       Grafana's data sources, and the ways between them
    collector.py     the OpenTelemetry Collector: traces, and the gateway's log
    loki.py          where the log is kept
    tempo.py         where traces are kept
    tables.py        objectives, budgets, thresholds and alerts for people
    yaml_text.py     YAML that is the same each time
    pack.py          all files by their path
    kubernetes.py    rules and triggers as a cluster's operators read them
    command.py       `radgateway slo generate | kubernetes | show`

The method is that of *The Site Reliability Workbook*, chapter 5 (sre.google/workbook).
"""
