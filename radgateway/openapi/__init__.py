"""The OpenAPI document of what the gateway itself answers."""
