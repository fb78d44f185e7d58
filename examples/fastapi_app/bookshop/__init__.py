"""A small shop's API, as it was before the gateway moved in."""
