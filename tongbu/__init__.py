"""The operator's package: command line, deployment, local stack."""
