"""Parameters, gradients and optimizer states divided among the processes (torch's FullyShardedDataParallel)."""
runner_type = 'convnext_mm.StrategyRunner'
strategy = dict(
    type='convnext_mm.FSDPStrategy',
    # SHARD_GRAD_OP keeps parameters from the forward to the backward pass: faster, with more memory.
    model_wrapper=dict(sharding_strategy='FULL_SHARD', auto_wrap_policy='convnext_mm.wrap_blocks'))
