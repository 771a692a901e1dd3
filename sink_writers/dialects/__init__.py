"""What differs between databases: spelling of types and names, their catalog, how rows are read back."""
