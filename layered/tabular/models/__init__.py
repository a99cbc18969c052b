"""Models of rows of tables."""
