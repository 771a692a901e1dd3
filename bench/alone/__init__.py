"""The processor alone: beside a plain confluent-kafka loop that does the same work, and beside capture alone."""
