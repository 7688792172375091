"""Choose the checkpoint from which a run goes on."""
import logging
import os
from pathlib import Path

from mmengine.config import ConfigDict
from mmengine.logging import print_log

from convnext_mm.checkpoint.errors import CheckpointError
from convnext_mm.checkpoint.files import read
from convnext_mm.utils.configs import type_name
from convnext_mm.utils.errors import UserError

#: How files begin from which no run goes on: unfinished ones, the best weights, steps that were not finite.
_OTHER = ('.', 'best_', 'nonfinite_')


def find_checkpoint(work_dir) -> tuple[str, dict] | None:
    """Return (path, content) of the newest whole checkpoint in ``work_dir``, or None where there is no checkpoint.

    Skip damaged files with a warning, and files without the optimizer's state.

    Raises:
        UserError: All checkpoints are damaged.
    """
    files = sorted((f for f in Path(work_dir).glob('*.pth') if not f.name.startswith(_OTHER)),
                   key=lambda f: f.stat().st_mtime_ns, reverse=True)
    damaged = []
    for file in files:
        try:
            content = read(str(file))
        except CheckpointError as error:
            print_log(f'{error}: going back to the checkpoint before', logger='current', level=logging.WARNING)
            damaged.append(file.name)
            continue
        if 'optimizer' in content and 'iter' in content.get('meta', {}):
            return str(file), content
    if damaged:
        raise UserError(f'--resume auto: every checkpoint in {str(work_dir)!r} is damaged ({", ".join(damaged)}); take '
                        'them out of the folder to start from the beginning, or give --resume a whole one')
    return None


def set_resume(cfg, resume: str | None) -> None:
    """Write into the config from which checkpoint the run goes on, and with which seed.

    All randomness of a run follows from its seed, so a resumed run takes the seed of its checkpoint.

    Args:
        cfg (Config): With ``work_dir`` set.
        resume (str, optional): A file, or ``auto`` for the newest whole checkpoint in the work dir; None leaves the
            choice to the config.

    Raises:
        UserError: The file does not exist, all checkpoints are damaged, or the strategy is DeepSpeed's.
    """
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
