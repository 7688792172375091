"""DeepSpeed's ZeRO: optimizer states and gradients divided among the processes; needs the package and GPUs."""
runner_type = 'convnext_mm.StrategyRunner'
strategy = dict(type='DeepSpeedStrategy', zero_optimization=dict(stage=2))
