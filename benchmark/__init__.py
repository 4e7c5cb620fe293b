"""What the program takes: time, memory, and steps for a good picture. See `benchmark.methods`."""
