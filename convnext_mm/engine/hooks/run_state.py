"""Keep in checkpoints what decides the course of a run and mmengine does not store."""
import uuid

from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.logging import print_log

from convnext_mm.engine.model_state import read_state, restore_state
from convnext_mm.engine.one_cycle import drop_functions
from convnext_mm.registry import HOOKS

#: Key of a checkpoint: state of the EarlyStoppingHooks, by their order.
KEY = 'early_stopping'
#: The same: what modules keep in plain attributes.
MODULES = 'module_state'
#: Key of mmengine's message hub: identity of a run, which it keeps when it is resumed.
RUN = 'run'


@HOOKS.register_module()
class RunStateHook(Hook):
    """Keep in checkpoints what mmengine does not: a run's identity, the state of EarlyStoppingHooks and of modules.

    A checkpoint that is written before a validation has the state before it, and the resumed run repeats that
    validation (see ``engine.runner.loops``). One that is written after it has the state after it, because
    ``settings.use_whole_checkpoints`` lets EarlyStoppingHooks come before the ``CheckpointHook``.
    """

    def before_train(self, runner):
        """Give a new run its identity; a resumed one has it from its checkpoint."""
        if RUN not in runner.message_hub.runtime_info:
            runner.message_hub.update_info(RUN, uuid.uuid4().hex)

    def before_save_checkpoint(self, runner, checkpoint):
        """Store the counts and best scores, and what modules keep in plain attributes; leave functions out."""
        states = [dict(wait_count=int(hook.wait_count), best_score=float(hook.best_score)) for hook in _hooks(runner)]
        if states:
            checkpoint[KEY] = states
        modules = read_state(runner.model)
        if modules:
            checkpoint[MODULES] = modules
        drop_functions(checkpoint)

    def after_load_checkpoint(self, runner, checkpoint):
        """Restore them, and stop at once where the stored state says so by the config's patience or threshold."""
        if not runner._resume:
            return
        restore_state(runner.model, checkpoint.get(MODULES) or {})
        for hook, state in zip(_hooks(runner), checkpoint.get(KEY) or []):
            hook.wait_count, hook.best_score = state['wait_count'], state['best_score']
            threshold = hook.stopping_threshold
            if hook.wait_count >= hook.patience or (
                    threshold is not None and hook.rule_map[hook.rule](hook.best_score, threshold)):
                runner.train_loop.stop_training = True
                print_log(f'The run of the checkpoint was stopped early: best {hook.monitor} {hook.best_score:g}, then '
                          f'{hook.wait_count} validations that were not better. It goes on with a larger patience or '
                          'another threshold of EarlyStoppingHook', logger='current')


def _hooks(runner):
    return [hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)]
