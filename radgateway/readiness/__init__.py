"""The readiness checklist: each of the strategy's boxes, and what shows that it is ticked."""
