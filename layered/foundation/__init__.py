"""Floor 0: tensors with a meaning, reversible transforms, keyed randomness, files that are data. Needs torch and numpy only."""
