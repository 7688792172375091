"""Take state dicts in any naming apart, and write them in another one.

``parse`` takes a state dict apart into a backbone with the official names, a classifier and the modules beside them;
``compose`` writes these in another naming. Both map dicts to dicts. They reshape tensors where the libraries differ,
but neither copy them nor compute with them.
"""
import re
from collections.abc import Iterable
from typing import NamedTuple

from convnext_mm.checkpoint.errors import CheckpointError
from convnext_mm.checkpoint.namings import (
    CLASSIFIER,
    ISOTROPIC,
    NAMINGS,
    Naming,
    classifier_names,
    count_blocks,
    pair_names,
    reshape,
)
from convnext_mm.utils.text import shorten

#: Where a whole model keeps its backbone, in mmdet, mmseg and transformers' UPerNet alike.
BACKBONE = 'backbone.'
#: Keys under which a file may hold its state dict, in the order of preference: the weights that were trained come
#: before their moving average, as the paper's detectors start from the former.
WRAPPERS = ('state_dict', 'model', 'model_state_dict', 'model_ema', 'state_dict_ema', 'teacher', 'module')
#: Prefixes that wrappers of a model leave in its keys.
_WRAPPER_PREFIX = re.compile(r'^(?:module\.|_orig_mod\.)+')
#: transformers' names of the heads of a UPerNet, and mmseg's.
_UPERNET = (('.batch_norm.', '.bn.'), ('_head.classifier.', '_head.conv_seg.'))
#: ConvNeXts of another build, by a part of a key, and why they are not taken.
_OTHERS = (
    (re.compile(r'dwconv\.kernel$'), 'a ConvNeXt V2 in the middle of sparse pre-training: convert it with '
                                     'remap_checkpoint_keys of the official repository first'),
)


#: All namings by the word of ``Parsed.naming``.
_RULES = {**NAMINGS, 'official isotropic': ISOTROPIC}


class Parsed(NamedTuple):
    """A state dict taken apart; tensors are the file's own, reshaped to the official shapes."""

    #: A key of ``NAMINGS``, or ``official isotropic``.
    naming: str
    #: What stood before the backbone's names.
    prefix: str
    #: Official name -> tensor: stem, stages, downsampling, and output norms ``norm{i}``.
    backbone: dict
    #: ``norm.*`` and ``head.*`` of a classification model.
    classifier: dict
    #: What the naming does not know below ``prefix``, tensors or not.
    unknown: dict
    #: Other modules, such as the neck and heads of a detector, by their whole names in mmdet or mmseg.
    others: dict

    @property
    def official(self) -> Naming:
        """The official naming of such a backbone."""
        return ISOTROPIC if self.naming == 'official isotropic' else NAMINGS['official']

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks of the four stages, or of the only one."""
        return count_blocks(self.backbone, self.official, '')

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the stages, 0 for one that is not there."""
        return tuple(self.backbone[self.official.anchor(i, 0)].shape[0] if depth else 0
                     for i, depth in enumerate(self.depths))

    @property
    def use_grn(self) -> bool:
        """Whether this is a ConvNeXt V2."""
        return 'stages.0.0.grn.gamma' in self.backbone


def find_state_dict(content: dict) -> tuple[dict, str | None]:
    """Return the state dict in what a file holds, and the key that it stood under (None for the file's own dict).

    Raises:
        CheckpointError: There is none.
    """
    for key in WRAPPERS:
        inner = content.get(key)
        if isinstance(inner, dict):
            return (inner, key) if _is_state_dict(inner) else (find_state_dict(inner)[0], key)
    if _is_state_dict(content):
        return content, None
    found = ', '.join(f'{key}: {type(value).__name__}' for key, value in list(content.items())[:8])
    raise CheckpointError(f'holds no state dict: expected named tensors, or one of {", ".join(WRAPPERS)}; '
                          f'found {found or "nothing"}')


def _is_state_dict(content):
    return any(hasattr(value, 'shape') for value in content.values()) and all(isinstance(key, str) for key in content)


def find_convnexts(names: Iterable[str], prefix: str = '') -> list[tuple[str, str]]:
    """Return naming and prefix of each ConvNeXt among those names of a state dict that start with ``prefix``."""
    names = [name for name in names if name.startswith(prefix)]
    found = []
    for naming, rules in _RULES.items():
        anchor = rules.anchor(0, 0)
        found += [(naming, name[:-len(anchor)]) for name in names if f'.{name}'.endswith(f'.{anchor}')]
    return found


def with_mm_heads(state_dict: dict) -> dict:
    """Return a state dict without the prefixes that wrappers of a model leave, transformers' heads in mmseg's names."""
    state_dict = {_WRAPPER_PREFIX.sub('', name): tensor for name, tensor in state_dict.items()}
    if not any(found == ('transformers', BACKBONE) for found in find_convnexts(state_dict)):
        return state_dict
    return {name if name.startswith(BACKBONE) else _rename(name, _UPERNET): tensor
            for name, tensor in state_dict.items()}


def with_mm_classifier(state_dict: dict) -> dict:
    """Return the state dict of a classification model in any naming with the modules of this project's classifiers:
    the backbone under ``backbone.``, in its own naming, the norm and the head where ``CLASSIFIER`` says.

    Raises:
        CheckpointError: It holds no ConvNeXt, or several.
    """
    tensors = {name: value for name, value in state_dict.items() if hasattr(value, 'shape')}
    naming, root = _find_the_convnext(tensors, None)
    names = _official_names(tensors, naming, root)[1]
    renamed = {}
    for name, value in state_dict.items():
        part, _, leaf = names.get(name, '').rpartition('.')
        if part:
            renamed[f'{CLASSIFIER[part]}.{leaf}'] = value
        elif name.startswith(root):
            renamed[BACKBONE + name[len(root):]] = value
        else:
            renamed[name] = value
    return renamed


def parse(state_dict: dict, prefix: str | None = None) -> Parsed:
    """Take a state dict in any of the namings apart.

    Args:
        state_dict (dict): Names and tensors.
        prefix (str, optional): Look only at names that start so, as mmengine's ``init_cfg`` has it.

    Raises:
        CheckpointError: It holds no ConvNeXt, several, or nothing under the prefix.
    """
    entries = with_mm_heads(state_dict)
    tensors = {name: value for name, value in entries.items() if hasattr(value, 'shape')}
    naming, root = _find_the_convnext(tensors, prefix)
    backbone_names, head_names = _official_names(tensors, naming, root)
    parsed = Parsed(naming, root, {}, {}, {}, {})
    for name, value in entries.items():
        if name in tensors and name in head_names:
            parsed.classifier[head_names[name]] = value
        elif name in tensors and name in backbone_names:
            official = backbone_names[name]
            parsed.backbone[official] = reshape(official, value, NAMINGS['official'])
        else:
            part = parsed.unknown if name.startswith(root) else parsed.others
            part[name] = value
    return parsed


def _find_the_convnext(tensors, prefix):
    """Return naming and prefix of the one ConvNeXt; raise a ``CheckpointError`` where there is none, or several."""
    prefix = _WRAPPER_PREFIX.sub('', f'{prefix.rstrip(".")}.') if prefix else ''
    found = find_convnexts(tensors, prefix)
    if not found:
        raise CheckpointError(_describe_absence(tensors, prefix))
    if len(found) > 1:
        raise CheckpointError(f'holds several ConvNeXts, under {", ".join(repr(root) for _, root in found)}: name one '
                              'by prefix=')
    return found[0]


def _official_names(tensors, naming, root):
    """Return ``{name in the file: official name}`` of the backbone's tensors, and of the classifier's."""
    rules = _RULES[naming]
    backbone = {root + name: official for official, name in pair_names(rules, count_blocks(tensors, rules, root))}
    classifier = classifier_names(rules, root)
    outside = any(not name.startswith(root) and name not in classifier for name in tensors)
    if outside or any(f'{root}norm{i}.weight' in tensors for i in range(3)):
        # No classifier, but a whole model or a backbone with several output norms. There, mmpretrain's norm3 is the
        # output norm of the last stage; in a classifier, it is the norm after pooling.
        classifier = {name: official for name, official in classifier.items() if name not in backbone}
    return backbone, classifier


def compose(parsed: Parsed, naming: str) -> dict:
    """Return the state dict, flat, that ``parse`` took apart in another naming, the heads of a whole model included.

    Args:
        parsed (Parsed): From ``parse``.
        naming (str): A key of ``NAMINGS``.

    Raises:
        CheckpointError: The naming has no place for a tensor, or its reader could not tell the parts apart again.
    """
    if parsed.official is ISOTROPIC and naming == 'official':
        naming = parsed.naming
    elif parsed.official is ISOTROPIC:
        raise CheckpointError(f'holds an isotropic ConvNeXt, which {naming} has not: only --to official writes it')
    rules, root = _RULES[naming], _choose_root(parsed, naming)
    names = {official: root + name for official, name in pair_names(rules, parsed.depths)}
    # Behind those of this project, the library's own.
    names.update((official, name) for name, official in classifier_names(rules, root).items())
    tensors = {**parsed.backbone, **parsed.classifier}
    homeless = [*(name for name in tensors if name not in names), *parsed.unknown,
                *(name for name, value in parsed.others.items() if not hasattr(value, 'shape'))]
    if homeless:
        raise CheckpointError(f'holds {len(homeless)} entries for which {naming} has no place: {shorten(homeless, 10)}')
    result = {names[name]: reshape(name, tensor, rules) for name, tensor in tensors.items()}
    renamed = [(mm, theirs) for theirs, mm in _UPERNET] if naming == 'transformers' else ()
    result.update((_rename(name, renamed), tensor) for name, tensor in parsed.others.items())
    again = parse(result)
    if (again.naming, again.backbone.keys(), again.classifier.keys()) != (
            naming, parsed.backbone.keys(), parsed.classifier.keys()):
        raise CheckpointError(f'cannot be written as {naming}, which would take its norm3 for the norm of a classifier')
    return result


def _choose_root(parsed, naming):
    """Return the prefix of the backbone in another naming; raise where it has no place for the modules beside it."""
    if parsed.others:
        upernet = any(name.startswith('decode_head.') for name in parsed.others)
        takers = ('official', 'official isotropic', 'mmpretrain', *(('transformers',) if upernet else ()))
        if parsed.prefix != BACKBONE or naming not in takers:
            modules = sorted({name.split('.')[0] for name in parsed.others})
            raise CheckpointError(f'holds {", ".join(modules)} beside the backbone, for which {naming} has no place')
        return BACKBONE
    if naming == 'mmpretrain' or 'head.weight' in parsed.classifier:
        return _RULES[naming].roots[parsed.use_grn]
    return ''


def convert(state_dict: dict, naming: str) -> dict:
    """Return a state dict, given in any of the namings, in another one; see ``parse`` and ``compose``."""
    return compose(parse(state_dict), naming)


def describe_method(names: Iterable[str]) -> str:
    """Return the kind of a whole model by its names, in the words of ``paper.json`` where it is one of the paper's."""
    if any(name.startswith('roi_head.mask_head.') for name in names):
        cascade = any(name.startswith('roi_head.bbox_head.0.') for name in names)
        return 'Cascade Mask R-CNN' if cascade else 'Mask R-CNN'
    if any(name.startswith('decode_head.psp_modules.') for name in names):
        return 'UPerNet'
    modules = sorted({name.split('.')[0] for name in names if not name.startswith(BACKBONE)})
    return f'backbone beside {", ".join(modules)}' if modules else 'backbone'


def _rename(name, pairs):
    for old, new in pairs:
        name = name.replace(old, new)
    return name


def _describe_absence(names, prefix):
    """Return why no ConvNeXt was found, in words."""
    for pattern, what in _OTHERS:
        if any(pattern.search(name) for name in names):
            return f'holds {what}'
    if prefix and not any(name.startswith(prefix) for name in names):
        tops = sorted({name.split('.')[0] for name in names})
        return f'holds nothing under prefix {prefix!r}; its names start with {shorten(tops, 10)}'
    return (f'holds no ConvNeXt in a known naming ({", ".join(NAMINGS)})'
            f'{f" under prefix {prefix!r}" if prefix else ""}; its first names are {shorten(names, 4)}')
