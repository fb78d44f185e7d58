"""Incidents: what alerts become, who is told, and what is left of them when they are over.

A small ASGI app of the gateway's own components (`app.py`). The thinking is in plain objects
without I/O: `severity.py` says how bad, `lifecycle.py` what may follow what, `notices.py` who
hears of it, `public_words.py` what the public is told, `review.py` which alerts were worth it.
Around them stand a store (`store.py`), one adapter for each service that is told, and the desk
that joins them.
"""
