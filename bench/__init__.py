"""Benchmarks and the crash runner."""
