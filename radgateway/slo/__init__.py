"""The SLO pack: what watches the gateway, generated from the declarations of its metrics."""
