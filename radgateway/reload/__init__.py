"""Another configuration for a gateway that serves: whole or not at all, and nobody notices."""
