"""Data sets: looked at before training, gone over whole, cleaned, guarded while they are read, and drawn."""
