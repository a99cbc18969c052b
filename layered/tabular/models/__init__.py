"""Models that take rows of a table: codes and numbers."""
