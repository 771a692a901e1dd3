"""Canonical to target."""
