"""What the program takes: time, memory, and steps for a good picture. `python -m benchmark`."""
