"""What happens on the machine while transactions are slow: pauses, waits and pressure, beside the stage clock."""
