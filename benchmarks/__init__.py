"""What the gateway costs, measured on this machine against nginx and against no gateway at all."""
