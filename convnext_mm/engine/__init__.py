"""What a training is made of: settings of its config, hooks, the optimizer, loops, resuming, its status."""
