"""Deploy as code: what is declared becomes true."""
