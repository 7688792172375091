"""A training report: one self-contained HTML page about one run or several side by side (`tools/report.py`)."""
import base64
import io
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from mmengine.config import Config
from PIL import Image

from convnext_mm.evaluation.cost import count_config
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.files import whole_file
from convnext_mm.version import __version__
from convnext_mm.visualization.charts import Chart, chart_json, library_script, require_library
from convnext_mm.visualization.report import curves
from convnext_mm.visualization.report.difference import config_difference
from convnext_mm.visualization.report.runs import METRICS, Run, read_run
from convnext_mm.visualization.report.worst_samples import predict_samples

_HERE = Path(__file__).parent
#: Of the logger's own, beside losses and figures.
_TIMES = {'time', 'data_time', 'step'}
_JPEG_QUALITY = 85


def write_report(folders: Sequence[str | Path], configs: Path, file: str | Path) -> None:
    """Write the page about the trainings in some work dirs.

    Args:
        folders (Sequence[str | Path]): Work dirs, one or more.
        configs (Path): The folder `configs/`, whose family bases the runs' configs are compared with.
        file (str | Path): Replaced as a whole or not at all.

    Raises:
        UserError: A folder is none of a training, bokeh is not installed, or the page cannot be written.
    """
    require_library()
    page = render([read_run(folder) for folder in folders], configs)
    with whole_file(file) as temporary:
        temporary.write_text(page, encoding='utf-8')


def render(runs: Sequence[Run], configs: Path) -> str:
    """Return the page as HTML; arguments as in :func:`write_report`."""
    environment = Environment(loader=FileSystemLoader(_HERE / 'templates'), autoescape=True, trim_blocks=True,
                              lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters.update(chart_json=chart_json, embed=_embed)
    # Bokeh's references come after what they refer to.
    environment.policies['json.dumps_kwargs'] = {'sort_keys': False, 'separators': (',', ':')}
    names = name_runs(runs)
    windows = {(run.config.get('log_processor') or {}).get('window_size', 10) for run in runs}
    return environment.get_template('page.html').render(
        views=[_view(run, name, configs) for run, name in zip(runs, names)],
        comparison=curves.comparison_charts(runs, names) if len(runs) > 1 else [], metrics=METRICS,
        windows=' or '.join(map(str, sorted(windows))), smooth=(curves.SMOOTH_FROM, curves.SMOOTH_PART),
        made=time.strftime('%Y-%m-%d %H:%M'), version=__version__,
        css=Markup((_HERE / 'report.css').read_text(encoding='utf-8')), library=Markup(library_script()))


def name_runs(runs: Sequence[Run]) -> list[str]:
    """Return names that tell the runs apart: their folders', with as many parents as that takes."""
    parts = [run.folder.resolve().parts for run in runs]
    names = ['/'.join(p[-1:]) for p in parts]
    for depth in range(2, max(map(len, parts)) + 1):
        if len(set(names)) == len(names):
            break
        names = ['/'.join(p[-depth:]) for p in parts]
    return names


class Figure(NamedTuple):
    """The last and the best value of a figure, when they were measured, and the published one; None where none is."""

    last: float | None
    step: int | None
    best: float | None
    best_step: int | None
    published: float | None


class Part(NamedTuple):
    """What a section shows of a run, or why it cannot."""

    content: object
    problem: str = ''


@dataclass
class View:
    """What the page shows of a run.

    Attributes:
        name (str): Tells it from the others.
        run (Run): What its work dir tells.
        facts (dict): Summary for the overview: ``loss`` (first and last), ``time`` in seconds, ``memory`` in MiB,
            ``updated`` (date and time).
        figures (dict[str, Figure]): By label.
        losses (list[Chart]): The total first.
        accuracy (Chart, optional): Of the figures that are known.
        measured (dict): Each figure of the last validation.
        rates (Chart, optional): Of the learning rates.
        samples, cost, difference (Part): They depend on more than the logs.
    """

    name: str
    run: Run
    facts: dict
    figures: dict
    losses: list[Chart]
    accuracy: Chart | None
    measured: dict
    rates: Chart | None
    samples: Part
    cost: Part
    difference: Part


def _view(run, name, configs):
    last = run.metrics[-1] if run.metrics else {}
    return View(name, run, _facts(run), {label: _figure(run, key) for key, (label, *_) in METRICS.items()},
                curves.loss_charts(run), curves.accuracy_chart(run),
                {key: value for key, value in last.items() if key not in _TIMES}, curves.rate_chart(run),
                _guarded(_samples, run), _guarded(_cost, run), _guarded(_difference, run, configs))


def _guarded(section: Callable, run, *arguments):
    """Return what a section shows, or what it lacks, which is said in its place: the page is written all the same."""
    try:
        return Part(section(run, *arguments))
    except Exception as error:  # Data, checkpoints and models are the user's: whatever they raise is theirs to see.
        text = ' '.join(str(error).split())
        text = text if isinstance(error, UserError) else f'{type(error).__name__}: {text}'
        print(f'{run.folder}: {text}', file=sys.stderr)
        return Part(None, f'Not available: {text}')


def _facts(run):
    losses, times, memory = ([line[key] for line in run.losses if key in line] for key in ('loss', 'time', 'memory'))
    return dict(loss=(losses[0], losses[-1]) if losses else None, time=median(times) if times else None,
                memory=max(memory, default=0), updated=time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(run.updated)))


def _figure(run, key):
    _, factor, row_key = METRICS[key]
    published = (run.published or {}).get(row_key)
    values = [(line[key] * factor, line['step']) for line in run.metrics if key in line]
    return Figure(*values[-1], *max(values), published) if values else Figure(None, None, None, None, published)


def _samples(run):
    """Return the worst samples, how many images were predicted and how many there are; None before a checkpoint."""
    if run.checkpoint is None:
        return None
    # A training that is going on keeps its GPU to itself.
    return predict_samples(run.config, run.checkpoint, accelerator=run.finished)


def _cost(run):
    return count_config(run.config)


def _difference(run, configs):
    base = None if run.family is None else configs / run.family / '_base_.py'
    if base is None or not base.is_file():
        raise UserError(f'no base to compare with: {base or "the model is of none of the families"}')
    return config_difference(Config.fromfile(base), run.config)


def _embed(picture):
    """Return an address that holds a picture."""
    data = io.BytesIO()
    Image.fromarray(picture).save(data, 'JPEG', quality=_JPEG_QUALITY)
    return f'data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}'
