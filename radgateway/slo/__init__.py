"""The SLO pack: rules, alerts, their tests and the ways of an alert, made from one definition.

    objectives.py    what is promised, and the arithmetic of error budgets
    settings.py      what can be set: objectives, addresses, the name of the job
    settings_file.py the same from a YAML file
    promql.py        numbers, windows and buckets as PromQL writes them
    rules.py         recording rules
    alerts.py        the alerts: the strategy's nine, burn rates, and what watches the watchers
    cases.py         tests of the rules, in promtool's form
    traffic.py       the series they measure
    alert_cases.py   that each alert fires and stays silent, at its boundary
    burn_cases.py    the same for burn rates and budgets
    record_cases.py  that the recorded ratios are what they say
    routing.py       Alertmanager: who is told, how urgently, and what is left out
    templates.py     the words of a notification
    tables.py        objectives, budgets, thresholds and alerts for people
    yaml_text.py     YAML that is the same each time
    pack.py          all files by their path
    command.py       `radgateway slo generate | show`

The method is that of *The Site Reliability Workbook*, chapter 5 (sre.google/workbook).
"""
