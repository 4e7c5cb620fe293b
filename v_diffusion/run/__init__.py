"""Many pictures: tasks, ranks, destinations, progress."""
