"""The demo world: an electronics trading company."""
