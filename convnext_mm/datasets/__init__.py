"""Data sets: checked before training, checked whole, cleaned, guarded while they are read, and drawn."""
