"""Log the learning rate of every layer while a run goes on."""
from mmengine.hooks import Hook, LoggerHook

from convnext_mm.registry import HOOKS


def layer_rates(optim_wrapper) -> dict[str, float]:
    """Return the learning rate of every layer id under its name in the logs.

    Args:
        optim_wrapper (OptimWrapper): By ``LayerDecayOptimWrapperConstructor``; the groups of others have no layers.

    Returns:
        dict[str, float]: ``lr/layer_00`` (the stem) and so on. Where ``custom_keys`` multiply the rate of a part of a
        layer, the name of that part ends with the factor: ``lr/layer_07_x10``.
    """
    rates = {}
    for group in getattr(getattr(optim_wrapper, 'optimizer', None), 'param_groups', []):
        if 'layer_id' in group:
            # Schedulers keep the rate they start from. Without schedulers the rate has not changed.
            initial = optim_wrapper.optimizer.defaults['lr'] * group['lr_scale']
            multiple = group.get('initial_lr', group['lr']) / initial if initial else 1
            own = '' if abs(multiple - 1) < 1e-6 else f'_x{multiple:.3g}'
            rates[f'lr/layer_{group["layer_id"]:02d}{own}'] = group['lr']
    return rates


@HOOKS.register_module()
class LayerRateHook(Hook):
    """Give the learning rate of every layer (:func:`layer_rates`) to every visualization backend.

    Do so whenever the ``LoggerHook`` logs, and at the last iteration. The rates do not go to mmengine's message hub:
    there they would lengthen each line on the terminal, and every checkpoint would hold their whole history.
    """

    # After the LoggerHook, before the schedulers set the rates of the next iteration.
    priority = 'BELOW_NORMAL'

    def before_train(self, runner):
        """Take the interval of the ``LoggerHook``."""
        self.interval = next((hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), 50)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Give the rates to the backends when they are due."""
        if self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner):
            rates = layer_rates(runner.optim_wrapper)
            if rates:
                runner.visualizer.add_scalars(rates, step=runner.iter + 1)
