"""What an exported file says of itself, and whether a config says the same."""
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from convnext_mm.export.classifier import takes_bytes
from convnext_mm.export.formats import FORMATS, find_format
from convnext_mm.utils.configs import is_classifier, type_name
from convnext_mm.utils.errors import UserError

#: What the data preprocessor does in a test, which is inside the graph.
_PREPROCESSING = ('mean', 'std', 'bgr_to_rgb', 'rgb_to_bgr', 'to_rgb', 'pad_val', 'pad_value', 'pad_size_divisor',
                  'test_cfg')
#: Facts in which a file and the config that it is tested by must be alike.
_ALIKE = ('mode', 'crop_size', 'stride', 'test_cfg', 'preprocessing', 'steps')


def is_exported(path: str | Path) -> bool:
    """Return whether a file's name has the ending of an exported one."""
    return Path(path).suffix in FORMATS


def describe(cfg: Any, part: str, **facts: Any) -> dict:
    """Return what a file says of itself, ready for JSON: how images get into it, and what its results mean.

    Args:
        cfg (Config): Of the model.
        part (str): ``whole`` or ``backbone``.
        facts: What is said besides.
    """
    described = dict(part=part, **facts, torch=torch.__version__)
    if part == 'backbone':
        described['images'] = 'normalised, float32, (N, 3, H, W)'
        return _ready(described)
    test, preprocessor = dict(cfg.model.get('test_cfg') or {}), cfg.model.get('data_preprocessor') or {}
    mode, crop_size, stride = (test.pop(key, default) for key, default in (
        ('mode', 'whole'), ('crop_size', None), ('stride', None)))
    described.update(
        images=_images(cfg.model, preprocessor), mode=mode, crop_size=crop_size, stride=stride,
        test_cfg=test, preprocessing={key: preprocessor[key] for key in _PREPROCESSING if key in preprocessor},
        steps=_steps((cfg.get('test_dataloader') or {}).get('dataset') or {}))
    return _ready(described)


def _images(model, preprocessor):
    """Return in words what the graph of a whole model takes."""
    if is_classifier(model) and not takes_bytes(preprocessor):
        return 'float32, (N, 3, H, W), as these steps return them'
    return 'RGB, uint8, (N, 3, H, W), after these steps'


def _steps(dataset):
    """Return the transforms of a data set, or of the first one inside wrappers, that change images."""
    while 'pipeline' not in dataset and ('dataset' in dataset or dataset.get('datasets')):
        dataset = dataset.get('dataset') or dataset['datasets'][0]
    return [dict(step, type=type_name(step)) for step in dataset.get('pipeline') or ()
            if not type_name(step).endswith(('Annotations', 'Inputs'))]


def _ready(described):
    """Return facts as JSON gives them back."""
    return json.loads(json.dumps(described, default=str))


def read_facts(path: str | Path) -> dict:
    """Return what an exported file of a whole model says of itself.

    Raises:
        UserError: It cannot be read, or is none of a whole model that this project exported.
    """
    form = find_format(path)
    if not Path(path).is_file():
        raise UserError(f'checkpoint {str(path)!r} is no file')
    try:
        facts = form.read_facts(Path(path))
    except Exception as error:  # Runtimes raise nearly anything at a broken file.
        raise UserError(f'checkpoint {str(path)!r} cannot be read: {type(error).__name__}: '
                        f'{(str(error).splitlines() or [""])[0][:200]}') from error
    if not isinstance(facts, Mapping) or facts.get('part') != 'whole':
        raise UserError(f'checkpoint {str(path)!r} is no whole model that `convnext-mm export` wrote')
    return dict(facts)


def check_facts(path: str | Path, facts: Mapping, cfg: Any) -> None:
    """Refuse a config that prepares images otherwise than a file's own did, or tests otherwise.

    Raises:
        UserError: Naming the first fact that differs.
    """
    own = describe(cfg, 'whole')
    for key in _ALIKE:
        if facts.get(key) != own[key]:
            name, stored, found = _difference(key, facts.get(key), own[key])
            raise UserError(f'checkpoint {str(path)!r} was exported with {name}={stored!r}, the config has {found!r}: '
                            'take the config of the export, or export the model with this one')


def _difference(name, stored, found):
    """Return the name of the innermost setting in which two differ, and what each has."""
    if isinstance(stored, Mapping) and isinstance(found, Mapping):
        for key in dict(stored) | dict(found):
            if stored.get(key) != found.get(key):
                return _difference(f'{name}.{key}', stored.get(key), found.get(key))
    if isinstance(stored, list) and isinstance(found, list) and len(stored) == len(found):
        for number, pair in enumerate(zip(stored, found)):
            if pair[0] != pair[1]:
                return _difference(f'{name}.{number}', *pair)
    return name, stored, found
