"""Speed beside the peers: each script runs both sides in turns in one process and prints the ratio."""
