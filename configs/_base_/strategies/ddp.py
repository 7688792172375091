"""The whole model in every process (torch's DistributedDataParallel); without a strategy, too, it is in each."""
model_wrapper_cfg = dict(
    type='MMDistributedDataParallel',
    broadcast_buffers=False,
    find_unused_parameters=False,
    # Gradients lie in the buckets that are sent, and not beside them once more.
    gradient_as_bucket_view=True)
