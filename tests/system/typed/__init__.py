"""What the pages tell to type, as chapters of a story that a small fleet goes through: see test_typed_commands.py."""
