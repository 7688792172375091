"""Say which settings of a resumed run hold, and let the config's rates and schedules hold if asked to."""
from mmengine.hooks import Hook
from mmengine.logging import print_log

from convnext_mm.engine.hooks.checkpoint import DRAWN
from convnext_mm.engine.one_cycle import end_in_checkpoint
from convnext_mm.engine.param_groups import check_groups, take_config
from convnext_mm.engine.resume_table import find_differences, format_differences, schedule_kinds
from convnext_mm.registry import HOOKS
from convnext_mm.utils.errors import UserError

_WHAT = 'schedule, learning rate and weight decay'


@HOOKS.register_module()
class ResumeHook(Hook):
    """Log once where the config of a resumed run and its checkpoint differ; decide whose schedule and rates hold.

    With ``config`` the values of a fresh run of the config at that iteration replace those in the loaded checkpoint,
    before mmengine takes them from it.

    Args:
        holds (str): ``checkpoint`` or ``config``. Defaults to 'checkpoint'.

    Raises:
        UserError: The groups of the optimizers, or the kinds of schedules, do not fit each other.
    """

    # After SafeCheckpointHook, which refuses what is no checkpoint of a run.
    priority = 'HIGH'

    def __init__(self, holds='checkpoint'):
        self._holds = holds

    def after_load_checkpoint(self, runner, checkpoint):
        """Compare, say what differs, and take the config's values if asked to."""
        if not runner._resume:
            return
        check_groups(runner, checkpoint, runner._load_from)
        end_in_checkpoint(runner, checkpoint)
        rows = find_differences(runner, checkpoint, self._holds)
        if rows:
            print_log(f'The config and the checkpoint differ:\n{format_differences(rows)}', logger='current')
        if self._holds == 'config':
            take_config(runner, checkpoint, checkpoint.get('message_hub', {}).get('runtime_info', {}).get(DRAWN))
            print_log(f"--resume-with config: the config's {_WHAT} hold from this step on", logger='current')
        elif any(row[3] == 'checkpoint' for row in rows):
            self._check_kinds(runner, checkpoint)
            print_log(f"The checkpoint's {_WHAT} hold; to take the config's from this step on, add --resume-with "
                      'config', logger='current')

    def _check_kinds(self, runner, checkpoint):
        kinds = schedule_kinds(runner, checkpoint)
        if kinds is not None:
            stored, present = (', '.join(part) or 'none' for part in kinds)
            raise UserError(f"the checkpoint's schedules ({stored}) do not fit the config's ({present}): to take the "
                            "config's from this step on, add --resume-with config; else write those of the checkpoint "
                            'into param_scheduler')
