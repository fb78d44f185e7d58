"""Secrets that change while the gateway serves: read again, kept when their source is away.

`infisical` asks the store, `sealed_file` keeps the last answer on disk, `last_known` judges how
long it may serve, and `refresher` looks again beside the requests and puts changes into force.
"""
