"""The harness: Tongbu measured beside Debezium's JDBC sink on the same rows, and broken on purpose (faults/)."""
