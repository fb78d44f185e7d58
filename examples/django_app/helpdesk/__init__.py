"""A small help desk, as it was before the gateway moved in."""
