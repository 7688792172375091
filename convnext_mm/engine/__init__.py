"""Run a training: settings of its config, hooks, the optimizer, loops, resuming and the status file."""
