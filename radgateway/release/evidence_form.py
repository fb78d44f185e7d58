"""The evidence file as a form: every entry there is, and who needs it."""

from typing import Final

FORM: Final = """\
# What CI and people attest of a release. Fill in what is true; leave the rest out: what is not here
# is not known. `by` is a person or a run of CI, `at` RFC 3339 or a day, `link` where more is seen.
version: 1.4.0                # the package's number
# revision: 3bbdefc           # the commit, as telemetry.revision has it: no other build counts then
type: minor                   # hotfix | patch | minor | major
# reason: CVE-2026-0001       # of a hotfix

# gate local alpha
# tests: {result: passed, by: ci, at: 2026-11-24T09:00:00Z, link: https://ci.example.invalid/1}

# gate alpha staging
# image_build: {result: passed, by: ci, at: 2026-11-24T09:10:00Z}
# scan: {critical: 0, high: 0, by: ci, at: 2026-11-24T09:12:00Z}
# code_review: {result: passed, by: grace, at: 2026-11-24T08:00:00Z}

# gate staging production
# smoke_tests: {result: passed, by: ci, at: 2026-11-24T10:00:00Z}
# integration_tests: {result: passed, by: ci, at: 2026-11-24T10:05:00Z}
# rollback: {result: passed, took_s: 95, by: ci, at: 2026-11-24T10:30:00Z}
# approvals:                  # each of another person; which ones the type says
#   - {role: release_manager, by: ada, at: 2026-11-25T09:00:00Z}
#   - {role: product, by: joan, at: 2026-11-25T09:00:00Z}
#   - {role: engineering, by: barbara, at: 2026-11-25T09:00:00Z}

# go-no-go, with scan and rollback from above
# ci_checks: {result: passed, by: ci, at: 2026-11-24T09:15:00Z}
# migration: {result: passed, by: ci, at: 2026-11-24T10:10:00Z}           # or not_applicable
# on_call_notified: {result: passed, by: ada, at: 2026-11-25T09:05:00Z}
# feature_flags: {result: not_applicable, by: ada, at: 2026-11-25T09:05:00Z}
# risk_assessment: {result: passed, by: ada, at: 2026-11-25T09:10:00Z}    # of a conditional go

# exit-criteria, with scan from above
# p1_review: {alerts: 41, false_positives: 1, by: grace, at: 2026-11-24}
# penetration_test: {result: passed, by: auditor, at: 2026-10-01}
# on_call_rotation: {result: passed, by: ada, at: 2026-11-01}
# runbooks: {result: passed, by: ci, at: 2026-11-24}
"""
