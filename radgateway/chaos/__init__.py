"""Chaos experiments: a hypothesis about the gateway, tested by breaking something on purpose.

    command.py      `radgateway chaos list | run`
    experiment.py   what an experiment is, and what it comes to
    runner.py       steady state, method, abort, verdict
    lab.py          what an experiment works with: a gateway, load, time, findings
    load.py         requests at a fixed rate, and how they went
    gateway_api.py  the management side of a gateway
    sandbox.py      processes of our own on this machine
    report.py       the report as a table, Markdown or JSON
    experiments/    the strategy's nine (its chapter 8), and high concurrency

The method is that of *Principles of Chaos Engineering* (principlesofchaos.org).
"""
