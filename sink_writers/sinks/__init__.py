"""One file per kind of sink, and the table of kinds."""
