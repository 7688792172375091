"""Choose the checkpoint from which a run goes on."""
import logging
import os
from pathlib import Path
from typing import NamedTuple

from mmengine.config import ConfigDict
from mmengine.logging import print_log
from mmengine.registry import PARAM_SCHEDULERS

from convnext_mm.checkpoint.errors import CheckpointError
from convnext_mm.checkpoint.files import read, read_unverified
from convnext_mm.engine.hooks.run_state import RUN
from convnext_mm.utils.configs import type_name, walk
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.text import shorten

#: How files begin from which no run goes on: unfinished ones, the best weights, steps that were not finite.
_OTHER = ('.', 'best_', 'nonfinite_')


class _Candidate(NamedTuple):
    """What a checkpoint tells of its run, and when it was written, as mmengine notes it."""

    iteration: int
    time: str
    changed: int
    path: Path
    seed: int | None
    run: str | None

    def is_of_run(self, other):
        """Return whether both are of one run. Checkpoints of other programs have no identity, only a seed."""
        return self.seed == other.seed and (None in (self.run, other.run) or self.run == other.run)


def find_checkpoint(work_dir) -> tuple[str, dict] | None:
    """Return (path, content) of the newest whole checkpoint in ``work_dir``, or None where there is no checkpoint.

    The run is the one that wrote a checkpoint last, by the time that is noted in it. Of its checkpoints, take the one
    of the highest iteration. Name those of other runs in the log and leave them. Skip damaged files with a warning,
    and files without the optimizer's state.

    Raises:
        UserError: All checkpoints of the run are damaged.
    """
    candidates, damaged = _examine(work_dir)
    last = max(candidates, key=lambda candidate: (candidate.time, candidate.changed), default=None)
    others = [candidate for candidate in candidates if not candidate.is_of_run(last)]
    if others:
        print_log(f'--resume auto: left checkpoints of another run in {work_dir} (other seed or identity): '
                  f'{shorten(candidate.path.name for candidate in others)}', logger='current')
    for candidate in sorted(candidates, reverse=True):
        if candidate in others:
            continue
        try:
            return str(candidate.path), read(candidate.path)
        except CheckpointError as error:
            _pass_over(error, candidate.path, damaged)
    if damaged:
        raise UserError(f'--resume auto: every checkpoint in {str(work_dir)!r} is damaged ({", ".join(damaged)}); take '
                        'them out of the folder to start from the beginning, or give --resume a whole one')
    return None


def _examine(work_dir):
    """Return the candidates in a folder, in any order, and the names of files that cannot be read."""
    candidates, damaged = [], []
    for file in sorted(Path(work_dir).glob('*.pth')):
        if file.name.startswith(_OTHER):
            continue
        try:
            content = read_unverified(file)
        except CheckpointError as error:
            _pass_over(error, file, damaged)
            continue
        meta = content.get('meta', {})
        if 'optimizer' in content and 'iter' in meta:
            info = content.get('message_hub', {}).get('runtime_info', {})
            candidates.append(_Candidate(meta['iter'], meta.get('time', ''), file.stat().st_mtime_ns, file,
                                         meta.get('seed'), info.get(RUN)))
    return candidates, damaged


def _pass_over(error, file, damaged):
    print_log(f'{error}: going back to the checkpoint before', logger='current', level=logging.WARNING)
    damaged.append(file.name)


def set_resume(cfg, resume: str | None, resume_with: str = 'checkpoint') -> None:
    """Write into the config from which checkpoint the run goes on, with which seed, and whose schedules hold.

    All randomness of a run follows from its seed, so a resumed run takes the seed of its checkpoint.

    Args:
        cfg (Config): With ``work_dir`` set.
        resume (str, optional): A file, or ``auto`` for the newest whole checkpoint in the work dir; None leaves the
            choice to the config.
        resume_with (str): ``config`` or ``checkpoint``: whose schedule, learning rate and weight decay hold in a
            resumed run. Defaults to 'checkpoint'.

    Raises:
        UserError: The file does not exist, all checkpoints are damaged, the strategy is DeepSpeed's, or the config's
            schedules cannot hold.
    """
    if resume_with == 'config':
        _check_config_can_hold(cfg, resume)
    _choose(cfg, resume)
    if cfg.get('resume'):
        hook = dict(type='convnext_mm.ResumeHook', holds=resume_with)
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]


def _check_config_can_hold(cfg, resume):
    """Raise a ``UserError`` where no run is resumed, or where the config's schedules cannot be replayed."""
    if resume is None and not cfg.get('resume'):
        raise UserError('--resume-with says what holds in a resumed run, and this run is not resumed: add --resume')
    if type_name(cfg.get('strategy')) == 'DeepSpeedStrategy':
        raise UserError("--resume-with config cannot change DeepSpeed's checkpoints: leave it out")
    for _, part in walk(cfg.get('param_scheduler') or []):
        kind = part.get('type')
        if getattr(PARAM_SCHEDULERS.get(kind) if isinstance(kind, str) else kind, 'need_val_args', False):
            raise UserError(f'--resume-with config cannot replay {type_name(part)}, which follows the scores of '
                            'validations: leave it out, or take a schedule that follows the iterations')


def _choose(cfg, resume):
    if resume is None:
        resume = cfg.get('load_from') or 'auto'
        if not cfg.get('resume') or not (resume == 'auto' or os.path.isfile(resume)):
            # There is nothing to resume, or mmengine fetches it.
            return
    elif type_name(cfg.get('strategy')) == 'DeepSpeedStrategy':
        raise UserError("--resume cannot read DeepSpeed's checkpoints, which are folders: leave it out and name one by "
                        '--cfg-options resume=True load_from=FOLDER')
    if resume == 'auto':
        found = find_checkpoint(cfg.work_dir)
        if found is None:
            print_log(f'--resume auto: no checkpoint in {cfg.work_dir}, starting from the beginning', logger='current')
            cfg.resume = False
            return
    elif os.path.isfile(resume):
        found = resume, read(resume)
    else:
        raise UserError(f'--resume {resume!r} does not exist; expected a checkpoint file, or auto for the newest one '
                        f'in {cfg.work_dir}')
    cfg.load_from, content = found
    cfg.resume = True
    seed = content.get('meta', {}).get('seed') if isinstance(content, dict) else None
    if seed is not None:
        cfg.setdefault('randomness', ConfigDict()).seed = seed
