"""The local stack: real services as child processes, without Docker."""
