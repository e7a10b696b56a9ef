"""What it costs that processes train together, measured here, and simulated for more of them than there are here."""
