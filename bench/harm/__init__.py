"""Harm to a whole stack: processes, networks, disks, clocks and data; `table.py` is the table of faults."""
