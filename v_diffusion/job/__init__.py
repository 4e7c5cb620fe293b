"""What decides a picture."""
