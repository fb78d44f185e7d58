"""The words of a notification, as templates of Alertmanager.

What a person needs first comes first: how bad, what, where, what to do, and where to read on.
Slack and email show each alert of a group; a page names what they share.
"""

from __future__ import annotations

from typing import Final

TEMPLATES: Final = r"""{{ define "radgateway.title" -}}
{{- if eq .Status "firing" -}}
[{{ .CommonLabels.priority }}] {{ else -}}
[resolved] {{ end -}}
{{ .CommonLabels.alertname }}
{{- with .CommonLabels.environment }} in {{ . }}{{ end -}}
{{- with .CommonAnnotations.summary }}: {{ . }}{{ end -}}
{{- if gt (len .Alerts) 1 }} ({{ len .Alerts }} alerts){{ end -}}
{{- end }}

{{ define "radgateway.runbook" -}}
{{ (index .Alerts 0).Annotations.runbook_url }}
{{- end }}

{{ define "radgateway.place" -}}
{{- with .Labels.provider }} provider {{ . }}{{ end -}}
{{- with .Labels.instance }} instance {{ . }}{{ end -}}
{{- with .Labels.sli }} {{ . }}{{ end -}}
{{- end }}

{{ define "radgateway.since" }} since {{ .StartsAt.UTC.Format "2006-01-02 15:04:05" }} UTC
{{- end }}

{{ define "radgateway.pagerduty.severity" -}}
{{- if eq .CommonLabels.severity "critical" -}}
critical
{{- else if eq .CommonLabels.severity "warning" -}}
warning
{{- else -}}
info
{{- end -}}
{{- end }}

{{ define "radgateway.pagerduty.alerts" -}}
{{- range .Alerts -}}
{{ .Annotations.description }}{{ template "radgateway.place" . }}
{{- template "radgateway.since" . }}
{{ end -}}
{{- end }}

{{ define "radgateway.slack.color" -}}
{{- if eq .Status "resolved" -}}
good
{{- else if eq .CommonLabels.severity "critical" -}}
danger
{{- else if eq .CommonLabels.severity "warning" -}}
warning
{{- else -}}
#439fe0
{{- end -}}
{{- end }}

{{ define "radgateway.slack.text" -}}
{{- range .Alerts -}}
{{ if eq .Status "resolved" }}:white_check_mark: {{ end -}}
{{ .Annotations.description }}{{ template "radgateway.place" . }}
{{ end -}}
{{- if eq .Status "firing" }}
*Do:* {{ (index .Alerts 0).Annotations.action }}
*Respond:* {{ (index .Alerts 0).Annotations.respond }}
{{- end }}
*Runbook:* {{ template "radgateway.runbook" . }}
{{- end }}

{{ define "radgateway.email.text" -}}
{{ template "radgateway.title" . }}
{{ range .Alerts }}
{{ .Status }}: {{ .Annotations.description }}{{ template "radgateway.place" . }}
{{- template "radgateway.since" . }}
{{- end }}

Do: {{ (index .Alerts 0).Annotations.action }}
Respond: {{ (index .Alerts 0).Annotations.respond }}
Runbook: {{ template "radgateway.runbook" . }}
{{ end }}

{{ define "radgateway.email.html" -}}
<p><strong>{{ template "radgateway.title" . }}</strong></p>
<ul>
{{- range .Alerts }}
<li>{{ .Status }}: {{ .Annotations.description }}{{ template "radgateway.place" . }}
{{- template "radgateway.since" . }}</li>
{{- end }}
</ul>
<p>Do: {{ (index .Alerts 0).Annotations.action }}<br>
Respond: {{ (index .Alerts 0).Annotations.respond }}<br>
<a href="{{ template "radgateway.runbook" . }}">Runbook</a></p>
{{ end }}
"""
"""Definitions that the receivers in `routing.py` name."""
