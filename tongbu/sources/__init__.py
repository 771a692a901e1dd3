"""The sources while they are captured: what may go wrong, as findings and metrics, and what changed in their tables."""
