"""What a training will need, said before it starts: memory, operations, files."""
