"""Pictures of predictions, one code for all who draw them."""
