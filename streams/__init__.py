"""Source to canonical to commands."""
