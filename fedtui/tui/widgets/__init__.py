"""What the places are made of, a widget a file."""
