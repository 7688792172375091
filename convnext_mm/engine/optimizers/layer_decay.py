"""Layer-wise learning-rate decay: names to layer ids by a pure function, ids to optimizer groups by a constructor.

Source: `facebookresearch/ConvNeXt` ``object_detection/mmcv_custom/layer_decay_optimizer_constructor.py`` and its twin
under ``semantic_segmentation/``; arXiv:2201.03545, tables 8 and 9. Deviations: the number of layers is read off the
model, and the groups honour mmengine's ``custom_keys``, ``norm_decay_mult`` and ``bias_decay_mult``.
"""
import contextlib
import math
import re
from collections.abc import Mapping
from numbers import Integral, Real

import torch.nn as nn
from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor

from convnext_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS
from convnext_mm.utils.errors import ArgumentTypeError, ArgumentValueError
from convnext_mm.utils.parameters import plain_name
from convnext_mm.utils.text import format_table

DECAY_TYPES = ('layer_wise', 'stage_wise')
#: Above, the lowest rates vanish for any decay that is meant.
MAX_LAYERS = 1000
#: What the constructor sets for each group.
_OWN = frozenset(('params', 'param_names', 'layer_id', 'lr_scale', 'lr', 'weight_decay'))
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm, nn.LayerNorm)
_BACKBONE_NAME = re.compile(r'(downsample_layers|stages)\.(\d+)\.(\d+)\.')


def derive_num_layers(depths):
    """Number of layers of a ConvNeXt with ``depths`` blocks: 3 and one for every 3 blocks of stage 2, rounded up.

    The official rule is 6 for 9 blocks and 12 for 27; rounding up generalises it, so that the deepest block of
    stage 2 comes just before stage 3 at any depth.
    """
    return 3 + -(-depths[2] // 3)


def get_layer_id(name, num_layers, decay_type='layer_wise'):
    """Layer id of a backbone parameter.

    Args:
        name (str): Name inside the backbone, ``stages.2.8.gamma`` for instance.
        num_layers (int): Layers of the backbone; see :func:`derive_num_layers`.
        decay_type (str): ``layer_wise`` or ``stage_wise``. Defaults to ``layer_wise``.

    Returns:
        int: 0 (the stem) to ``num_layers``; ``num_layers + 1`` for what is neither stem, downsampling nor block.
    """
    match = _BACKBONE_NAME.match(plain_name(name))
    if match is None:
        return num_layers + 1
    kind, stage, block = match.group(1), int(match.group(2)), int(match.group(3))
    if decay_type == 'stage_wise':
        return 0 if kind == 'downsample_layers' else stage + 1
    if stage == 3:
        return num_layers
    if stage == 2:
        return 3 if kind == 'downsample_layers' else 3 + block // 3
    # The downsampling layer belongs to the stage behind it; the stem alone comes before stage 0.
    return 0 if kind == 'downsample_layers' and stage == 0 else stage + 1


def find_backbones(model):
    """Name (with a trailing dot unless it is the model itself) -> depths, of every ConvNeXt inside ``model``.

    A ConvNeXt is known by its structure (``downsample_layers`` and ``stages``), so that mmpretrain's, a compiled or
    a wrapped one is found as well.
    """
    found = {}
    for name, module in model.named_modules():
        prefix = f'{name}.' if name else ''
        if any(prefix.startswith(outer) for outer in found):
            continue
        if hasattr(module, 'downsample_layers') and hasattr(module, 'stages'):
            found[prefix] = getattr(module, 'depths', None) or [len(stage) for stage in module.stages]
    return found


def _number(name, value):
    """A finite number of 0 or more, as it is."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ArgumentTypeError(f'{name} must be a number, got {value!r}')
    # Python's integers go beyond any float.
    with contextlib.suppress(OverflowError):
        if 0 <= float(value) < math.inf:
            return value
    raise ArgumentValueError(f'{name} must be a finite number of 0 or more, got {value}')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Optimizer wrapper whose learning rate falls by ``decay_rate`` from each layer of the backbone to the one below.

    The rate of a parameter is ``lr * decay_rate ** (num_layers + 1 - layer_id)``; the output norms, the neck and the
    heads train at ``lr``. Weight decay is 0 for biases and everything one-dimensional (norms and layer scale), for
    GRN too, and ``weight_decay`` otherwise. Every trainable parameter is in exactly one group; frozen ones in none.

    Args:
        optim_wrapper_cfg (dict): The config's ``optim_wrapper``; its ``optimizer`` must give ``lr`` and may give
            ``weight_decay`` (0 if not).
        paramwise_cfg (dict): ``decay_rate`` (float in (0, 1], required) and

            - ``decay_type`` (str): ``layer_wise`` (Cascade and Mask R-CNN recipes) or ``stage_wise`` (UPerNet
              recipes). Defaults to ``layer_wise``.
            - ``num_layers`` (int, optional): Read off the model by default. A value so small that it would raise a
              rate above ``lr`` is refused.
            - ``custom_keys`` (dict, optional): Substring of a parameter's name -> dict of ``lr_mult`` (multiplies
              the layer's rate), ``decay_mult`` (multiplies ``weight_decay``, in place of the rules above) and other
              options of the optimizer's groups. The longest key that matches wins, as in mmengine.
            - ``norm_decay_mult`` (float, optional): Multiplies ``weight_decay`` for norm layers, in place of 0.
            - ``bias_decay_mult`` (float, optional): Multiplies it for biases outside norm layers, in place of 0.

    Raises:
        ArgumentValueError, ArgumentTypeError: (a ValueError, a TypeError) naming the key, what it got and what it
            takes; also where the model holds no ConvNeXt.

    Source: see the module.
    """

    _KEYS = ('decay_rate', 'decay_type', 'num_layers', 'custom_keys', 'norm_decay_mult', 'bias_decay_mult')

    def _validate_cfg(self):
        cfg = self.paramwise_cfg
        if not isinstance(cfg, Mapping):
            raise ArgumentTypeError(f'paramwise_cfg must be a dict of {", ".join(self._KEYS)}, got {cfg!r}')
        unknown = sorted(map(str, set(cfg) - set(self._KEYS)))
        if unknown:
            raise ArgumentValueError(f'paramwise_cfg takes {", ".join(self._KEYS)}, got {", ".join(unknown)}')
        if self.base_lr is None:
            raise ArgumentValueError('optim_wrapper.optimizer must give lr, the rate that layer decay scales')
        _number('optim_wrapper.optimizer.lr', self.base_lr)
        if 'weight_decay' in self.optimizer_cfg:
            _number('optim_wrapper.optimizer.weight_decay', self.base_wd)
        if 'decay_rate' not in cfg:
            raise ArgumentValueError('paramwise_cfg.decay_rate is missing: a number above 0, up to 1')
        if not 0 < _number('paramwise_cfg.decay_rate', cfg['decay_rate']) <= 1:
            raise ArgumentValueError(f"paramwise_cfg.decay_rate must be above 0, up to 1, got {cfg['decay_rate']}")
        if not isinstance(self.decay_type, str):
            raise ArgumentTypeError(f"paramwise_cfg.decay_type must be one of {', '.join(DECAY_TYPES)}, "
                                    f'got {self.decay_type!r}')
        if self.decay_type not in DECAY_TYPES:
            raise ArgumentValueError(f"paramwise_cfg.decay_type must be one of {', '.join(DECAY_TYPES)}, "
                                     f'got {self.decay_type!r}')
        num_layers = cfg.get('num_layers')
        if num_layers is not None:
            if isinstance(num_layers, bool) or not isinstance(num_layers, Integral):
                raise ArgumentTypeError(f'paramwise_cfg.num_layers must be an integer, got {num_layers!r}')
            if not 1 <= num_layers <= MAX_LAYERS:
                raise ArgumentValueError(f'paramwise_cfg.num_layers must be from 1 to {MAX_LAYERS}, got {num_layers}')
        for key in ('norm_decay_mult', 'bias_decay_mult'):
            if cfg.get(key) is not None:
                _number(f'paramwise_cfg.{key}', cfg[key])
        self._validate_custom_keys(cfg.get('custom_keys'))

    def _validate_custom_keys(self, custom_keys):
        if custom_keys is None:
            return
        if not isinstance(custom_keys, Mapping) or not all(
                isinstance(key, str) and isinstance(options, Mapping) for key, options in custom_keys.items()):
            raise ArgumentTypeError("paramwise_cfg.custom_keys must be a dict of dicts (part of a parameter's name -> "
                                    f'lr_mult, decay_mult), got {custom_keys!r}')
        for key, options in custom_keys.items():
            for option in ('lr_mult', 'decay_mult'):
                _number(f'paramwise_cfg.custom_keys[{key!r}].{option}', options.get(option, 1))
            own = sorted(_OWN.intersection(options))
            if own:
                raise ArgumentValueError(f'paramwise_cfg.custom_keys[{key!r}] gives {", ".join(own)}, which layer '
                                         'decay sets: give lr_mult or decay_mult')

    @property
    def decay_type(self):
        return self.paramwise_cfg.get('decay_type', DECAY_TYPES[0])

    def add_params(self, params, module, **kwargs):
        """Append to ``params`` the groups of every trainable parameter of ``module``."""
        params.extend(self.group_parameters(module))
        print_log(f'Layer decay {self.paramwise_cfg["decay_rate"]} ({self.decay_type}), base rate {self.base_lr:g}\n'
                  f'{format_groups(params)}', logger='current')

    def group_parameters(self, module):
        """The groups of every trainable parameter of ``module``, by layer and weight decay.

        Returns:
            list[dict]: ``params``, ``param_names``, ``layer_id``, ``lr_scale`` (from the decay), ``lr``,
            ``weight_decay`` and what ``custom_keys`` add.
        """
        backbones = find_backbones(module)
        if not backbones:
            raise ArgumentValueError('LayerDecayOptimWrapperConstructor found no ConvNeXt (a module with '
                                     f'downsample_layers and stages) in {type(module).__name__}: use '
                                     'DefaultOptimWrapperConstructor, or give the model a ConvNeXt backbone')
        given = self.paramwise_cfg.get('num_layers')
        num_layers = {plain_name(prefix): derive_num_layers(depths) if given is None else given
                      for prefix, depths in backbones.items()}
        groups, seen = {}, set()
        for module_name, submodule in module.named_modules():
            for leaf, parameter in submodule.named_parameters(prefix=module_name, recurse=False):
                if parameter.requires_grad and id(parameter) not in seen:
                    seen.add(id(parameter))
                    self._add_param(groups, plain_name(leaf), submodule, parameter, num_layers)
        return sorted(groups.values(), key=lambda group: (group['layer_id'], group['weight_decay']))

    def _add_param(self, groups, name, module, parameter, num_layers):
        layer_id, exponent = max(num_layers.values()) + 1, 0
        for prefix, layers in num_layers.items():
            if name.startswith(prefix):
                layer_id = get_layer_id(name[len(prefix):], layers, self.decay_type)
                exponent = layers + 1 - layer_id
        if exponent < 0:
            raise ArgumentValueError(f'paramwise_cfg.num_layers={layers} is too small: {name} has layer id {layer_id} '
                                     'and would train above the base rate; leave num_layers out to derive it')
        custom = self._custom_options(name)
        scale = self.paramwise_cfg['decay_rate'] ** exponent
        options = dict(layer_id=layer_id, lr_scale=scale, lr=self.base_lr * scale * custom.pop('lr_mult', 1),
                       weight_decay=(self.base_wd or 0) * self._decay_mult(name, module, parameter, custom), **custom)
        group = groups.setdefault(repr(options), dict(params=[], param_names=[], **options))
        group['params'].append(parameter)
        group['param_names'].append(name)

    def _custom_options(self, name):
        """Options of the longest custom key inside ``name`` (the alphabet decides between equals, as in mmengine)."""
        custom_keys = self.paramwise_cfg.get('custom_keys') or {}
        for key in sorted(sorted(custom_keys), key=len, reverse=True):
            if key in name:
                return dict(custom_keys[key])
        return {}

    def _decay_mult(self, name, module, parameter, custom):
        """Factor on the weight decay; takes ``decay_mult`` out of ``custom``."""
        given = custom.pop('decay_mult', None)
        is_norm, is_bias = isinstance(module, _NORMS), name.rsplit('.', 1)[-1] == 'bias'
        if given is None and is_norm:
            given = self.paramwise_cfg.get('norm_decay_mult')
        elif given is None and is_bias:
            given = self.paramwise_cfg.get('bias_decay_mult')
        if given is not None:
            return given
        return 0. if parameter.ndim == 1 or is_bias or '.grn.' in name else 1.


def format_groups(groups):
    """One compact table of optimizer groups: layer, parameters, learning rate, weight decay."""
    return format_table(('layer', 'parameters', 'learning rate', 'weight decay'), (
        (g['layer_id'], f'{sum(p.numel() for p in g["params"]):,}', f'{g["lr"]:.4g}', f'{g["weight_decay"]:g}')
        for g in groups))
