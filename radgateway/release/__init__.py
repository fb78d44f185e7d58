"""Whether a release may go on: gates, go or no-go, a canary, rollback, windows, exit criteria.

Each question is answered by findings: a criterion, its threshold, what was measured or attested,
and a verdict. What can't be measured is never a pass.
"""
