"""One module a command: what `tools/` call."""
