"""What a circuit breaker thinks, without ASGI, logs or metrics.

Read in this order: `config`, `policy` (states, admission, judgement), then its parts: `window`
(how the latest calls went), `probes` (half open), `open_time` and `ramp` (going away and coming
back), `credential` (quota and key), `ejection` (of a model's providers some stay in use), `hints`
(what other replicas saw). `standing` has the words for all of it. The layer is `provider.breaker`.
"""
