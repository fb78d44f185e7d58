"""Articles that answer what customers ask most."""
