"""Warn of schedules that lift the rates which layer decay keeps low."""
import logging

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapperDict

from convnext_mm.engine.schedule_limits import CEILING, built_limits, describe_limit
from convnext_mm.registry import HOOKS


@HOOKS.register_module()
class ScheduleLimitHook(Hook):
    """Warn, as training begins, of a schedule whose floor lies above the rates of some groups, or that sets all alike.

    The values are those of the built schedulers, of a resumed run too.
    """

    def before_train(self, runner):
        """Compare the schedules with the groups' rates, and say in one line what rises, and what to set."""
        several = isinstance(runner.optim_wrapper, OptimWrapperDict)
        wrappers = dict(runner.optim_wrapper.items()) if several else {'': runner.optim_wrapper}
        for name, wrapper in wrappers.items():
            schedulers = runner.param_schedulers or []
            schedulers = schedulers.get(name, []) if isinstance(schedulers, dict) else schedulers
            for limit in built_limits(schedulers, _keys(runner.cfg.get('param_scheduler'), name, len(schedulers))):
                told = describe_limit(limit, _rates(wrapper.optimizer, limit.setting == CEILING))
                if told:
                    print_log(told, 'current', logging.WARNING)


def _keys(settings, name, number):
    """Return the config keys of the schedulers of an optimizer, which has a name if it is one of several."""
    key = 'param_scheduler'
    if isinstance(settings, dict) and name in settings:
        settings, key = settings[name], f'{key}.{name}'
    return [key] if isinstance(settings, dict) else [f'{key}.{i}' for i in range(number)]


def _rates(optimizer, overwritten):
    """Return the rate from which each group starts; where a schedule has overwritten it, that of layer decay."""
    if overwritten:
        return [group.get('lr_scale', 1) * optimizer.defaults['lr'] for group in optimizer.param_groups]
    return [group.get('initial_lr', group['lr']) for group in optimizer.param_groups]
