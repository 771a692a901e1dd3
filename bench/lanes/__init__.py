"""What lanes must bear beside live traffic: giants, republishes of millions, restarts; and a state of a million rows."""
