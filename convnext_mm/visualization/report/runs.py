"""Read what a training leaves in its work dir: logs of all its starts joined into one run, config, environment.

mmengine makes a folder `<time stamp>/` at every start, with `vis_data/scalars.json` (a JSON object a line) and
`<time stamp>.log` in it; a resumed training goes on in the next one. A run may be going on, or may have been killed in
the middle of a line.
"""
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from convnext_mm.published.imagenet import imagenet_recipe
from convnext_mm.published.paper import recipe
from convnext_mm.utils.configs import is_classifier, join_preprocessor, type_name
from convnext_mm.utils.errors import UserError

#: Model type -> folder of its family below `configs/`.
FAMILIES = {'MaskRCNN': 'mask_rcnn', 'CascadeRCNN': 'cascade', 'EncoderDecoder': 'upernet',
            'ImageClassifier': 'imagenet'}
#: Key of a figure in mmengine's log -> label, factor that makes it per cent, and key in a published row, or None.
METRICS = {
    'coco/bbox_mAP': ('box AP', 100, 'box_ap'),
    'coco/segm_mAP': ('mask AP', 100, 'mask_ap'),
    'mIoU': ('mIoU', 1, 'miou_single_scale'),
    'accuracy/top1': ('top-1', 1, 'top1'),
    # Beside that of their average, which EMAHook validates.
    'accuracy/top1_plain': ('top-1 of the weights', 1, None),
    'accuracy/top5': ('top-5', 1, 'top5'),
}
_RESUMED = re.compile(r'resumed epoch: (\d+), iter: (\d+)')
_ENVIRONMENT = re.compile(r'-{20,}\nSystem environment:\n(.*?)\n-{20,}', re.S)
_CHECKPOINT = re.compile(r'(?:epoch|iter)_(\d+)\.pth')


def _count(name):
    """Return the epochs or iterations that the name of a checkpoint tells."""
    return int(name.removesuffix('.pth').rpartition('_')[2])


@dataclass
class Run:
    """A training.

    Attributes:
        folder (Path): The work dir.
        config (mmengine.Config): Of the newest start.
        config_name (str): File name of the config it was started with.
        losses (list[dict]): What the logger wrote in training; ``step`` counts iterations.
        rates (list[dict]): What ``LayerRateHook`` wrote; ``step`` counts iterations.
        metrics (list[dict]): What validations found; ``step`` counts epochs, or iterations (``metric_unit``).
        resumed (list[int]): Iterations after which another start went on.
        environment (dict[str, str]): mmengine's account of the machine and versions.
        unreadable (int): Lines in the middle of logs that are no JSON.
        updated (float): When a log was last written, in seconds since the epoch.
    """

    folder: Path
    config: Config
    config_name: str
    losses: list[dict] = field(default_factory=list)
    rates: list[dict] = field(default_factory=list)
    metrics: list[dict] = field(default_factory=list)
    resumed: list[int] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    unreadable: int = 0
    updated: float = 0.

    @property
    def by_epoch(self) -> bool:
        """Whether the length of the training is counted in epochs."""
        return bool((self.config.get('train_cfg') or {}).get('max_epochs'))

    @property
    def metric_unit(self) -> str:
        """What ``step`` counts in ``metrics``: ``epoch`` or ``iteration``."""
        logger = (self.config.get('default_hooks') or {}).get('logger') or {}
        return 'epoch' if logger.get('log_metric_by_epoch', True) else 'iteration'

    @property
    def progress(self) -> tuple[int, int | None]:
        """Epochs or iterations done, and how many there are to be; the second is None where the config has none."""
        last = self.losses[-1] if self.losses else {}
        train_cfg = self.config.get('train_cfg') or {}
        if self.by_epoch:
            return last.get('epoch', 0), train_cfg['max_epochs']
        return last.get('step', 0), train_cfg.get('max_iters')

    @property
    def finished(self) -> bool:
        """Whether the checkpoint of the last epoch or iteration was written."""
        name, total = self._last_checkpoint_name(), self.progress[1]
        return bool(name and total and _count(name) >= total)

    @property
    def checkpoint(self) -> Path | None:
        """The newest checkpoint that is still in the work dir; None before the first."""
        # The path in `last_checkpoint` is of the day it was written: a work dir may have been moved since.
        name = self._last_checkpoint_name()
        if name and (self.folder / name).is_file():
            return self.folder / name
        found = [p for p in self.folder.glob('*.pth') if _CHECKPOINT.fullmatch(p.name)]
        return max(found, key=lambda p: _count(p.name), default=None)

    def _last_checkpoint_name(self):
        pointer = self.folder / 'last_checkpoint'
        name = Path(pointer.read_text().strip()).name if pointer.is_file() else ''
        return name if _CHECKPOINT.fullmatch(name) else None

    @property
    def family(self) -> str | None:
        """Folder of the config's family below `configs/`; None for other models."""
        model = self.config.get('model') or {}
        is_isotropic = type_name(model.get('backbone')) == 'IsotropicConvNeXt' and is_classifier(model)
        return 'isotropic' if is_isotropic else FAMILIES.get(type_name(model))

    @property
    def published(self) -> dict | None:
        """The paper's row for this run's config (``recipe``, ``imagenet_recipe``); None for other configs or data."""
        dataset = (self.config.get('val_dataloader') or {}).get('dataset') or {}
        if self.family is None or 'metainfo' in dataset:
            return None
        config = f'{self.family}/{self.config_name}'
        if is_classifier(self.config.model):
            # Classes of one's own come from the folders.
            return imagenet_recipe(config) if type_name(dataset) == 'ImageNet' else None
        return recipe(config)

    @property
    def broken_at(self) -> int | None:
        """Iteration of the first loss that is not finite; None if all are."""
        return next((line['step'] for line in self.losses if not math.isfinite(line.get('loss', 0))), None)


def read_run(folder: str | Path) -> Run:
    """Read a work dir, as given to `tools/train.py --work-dir`.

    Returns:
        Run: With empty lists where nothing was logged yet.

    Raises:
        UserError: There is no folder, or no training was started in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f'work dir {str(folder)!r} does not exist; expected the folder of a training, such as '
                        'work_dirs/cascade/convnext_t_3x')
    starts = sorted(path.parents[1] for path in folder.glob('*/vis_data/config.py'))
    if not starts:
        raise UserError(f'work dir {str(folder)!r} holds no training: expected <time stamp>/vis_data/config.py in it, '
                        'which mmengine writes when a training starts')
    logs = [_read_log(start) for start in starts]
    # Testing writes a folder of its own into the same work dir, without lines about training.
    trained = [start for start, log in zip(starts, logs) if log.losses] or starts
    run = Run(folder, _read_config(trained[-1] / 'vis_data' / 'config.py'), _config_name(folder))
    for log in logs:
        _join(run, log)
    run.environment = _read_environment(trained[-1])
    run.updated = max(path.stat().st_mtime for start in trained for path in start.rglob('*') if path.is_file())
    return run


@dataclass
class _Log:
    """The lines of one start, and the (epoch, iteration) that it went on from."""

    origin: tuple[int, int]
    losses: list[dict] = field(default_factory=list)
    rates: list[dict] = field(default_factory=list)
    metrics: list[dict] = field(default_factory=list)
    unreadable: int = 0


def _read_log(start):
    resumed = _RESUMED.search(_log_text(start))
    log = _Log(tuple(map(int, resumed.groups())) if resumed else (0, 0))
    file = start / 'vis_data' / 'scalars.json'
    lines = file.read_text(errors='replace').splitlines() if file.is_file() else []
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            if not isinstance(line.get('step'), int):
                raise ValueError
        except (ValueError, AttributeError):
            # The last line may be half written.
            log.unreadable += number < len(lines)
            continue
        if 'iter' in line:
            log.losses.append(line)
        elif any(key.startswith('lr/layer_') for key in line):
            log.rates.append(line)
        else:
            log.metrics.append(line)
    return log


def _log_text(start):
    file = start / f'{start.name}.log'
    return file.read_text(errors='replace') if file.is_file() else ''


def _join(run, log):
    """Add the lines of the next start to a run, in place of the lines after the point where it went on."""
    run.unreadable += log.unreadable
    if not (log.losses or log.metrics):
        return
    epoch, iteration = log.origin
    if run.losses and iteration:
        run.resumed.append(iteration)
    if not iteration:
        run.resumed.clear()
    run.losses = [line for line in run.losses if line['step'] <= iteration] + log.losses
    run.rates = [line for line in run.rates if line['step'] <= iteration] + log.rates
    kept = epoch if run.metric_unit == 'epoch' else iteration
    run.metrics = [line for line in run.metrics if line['step'] <= kept] + log.metrics


def _read_config(file):
    try:
        cfg = Config.fromfile(file)
    except Exception as error:  # A config is a program of the user's: whatever it raises is theirs to see.
        raise UserError(f'{file} cannot be read: {type(error).__name__}: {error}') from error
    join_preprocessor(cfg)
    return cfg


def _config_name(folder):
    """Return the name of the config's copy, which mmengine puts into the work dir; of several, the newest."""
    copies = sorted(folder.glob('*.py'), key=lambda path: path.stat().st_mtime)
    own = folder / f'{folder.name}.py'
    return own.name if own in copies or not copies else copies[-1].name


def _read_environment(start):
    """Return mmengine's account of the machine at the top of a log, without how torch was compiled."""
    block = _ENVIRONMENT.search(_log_text(start))
    entries = re.findall(r'^ {4}([\w .]+): (.+)$', block.group(1), re.M) if block else []
    return {name: value.strip() for name, value in entries if name != 'PyTorch compiling details'}
