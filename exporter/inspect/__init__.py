"""What is in an adapter file, and what about it looks odd."""
