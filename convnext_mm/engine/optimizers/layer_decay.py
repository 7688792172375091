"""Layer-wise learning-rate decay: a pure function maps names to layer ids, a constructor maps ids to optimizer groups.

Source: `facebookresearch/ConvNeXt` ``object_detection/mmcv_custom/layer_decay_optimizer_constructor.py`` and its twin
under ``semantic_segmentation/``; arXiv:2201.03545, tables 8 and 9. Deviations: the number of layers is read off the
model, and the groups honour mmengine's ``custom_keys``, ``norm_decay_mult`` and ``bias_decay_mult``.
"""
import re
from collections.abc import Iterable, Mapping, Sequence

import torch.nn as nn
from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor

from convnext_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS
from convnext_mm.utils.arguments import check_integer, check_number
from convnext_mm.utils.errors import ArgumentTypeError, ArgumentValueError
from convnext_mm.utils.parameters import plain_name
from convnext_mm.utils.text import format_table

DECAY_TYPES = ('layer_wise', 'stage_wise')
#: With more layers the lowest rates vanish at any decay in use.
MAX_LAYERS = 1000
#: Keys of a group that the constructor sets.
_OWN = frozenset(('params', 'param_names', 'layer_id', 'lr_scale', 'lr', 'weight_decay'))
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm, nn.LayerNorm)
_BACKBONE_NAME = re.compile(r'(downsample_layers|stages)\.(\d+)\.(\d+)\.')
_ISOTROPIC_NAME = re.compile(r'stem\.|blocks\.(\d+)\.')


def derive_num_layers(depths: Sequence[int]) -> int:
    """Return the number of layers of a ConvNeXt with so many blocks a stage: 3, and 1 for every 3 blocks of stage 2,
    rounded up.

    The official rule is 6 for 9 blocks and 12 for 27; rounding up generalises it, so that the deepest block of
    stage 2 comes just before stage 3 at any depth. Each block of an isotropic ConvNeXt is a layer, as the blocks of
    plain transformers are; the paper has no rule for it.
    """
    if len(depths) == 1:
        return depths[0]
    return 3 + -(-depths[2] // 3)


def get_layer_id(name: str, num_layers: int, decay_type: str = 'layer_wise') -> int:
    """Return the layer id of a backbone parameter.

    Args:
        name (str): Name inside the backbone, ``stages.2.8.gamma`` for instance.
        num_layers (int): Layers of the backbone; see :func:`derive_num_layers`.
        decay_type (str): ``layer_wise`` or ``stage_wise``. Defaults to ``layer_wise``.

    Returns:
        int: 0 (the stem) to ``num_layers``; ``num_layers + 1`` for what is neither stem, downsampling nor block. Block
        ``b`` of an isotropic ConvNeXt is layer ``b + 1`` by either type.
    """
    isotropic = _ISOTROPIC_NAME.match(plain_name(name))
    if isotropic:
        return 0 if isotropic.group(1) is None else int(isotropic.group(1)) + 1
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
    # A downsampling layer belongs to the stage after it. The first one is the stem, a layer of its own.
    return 0 if kind == 'downsample_layers' and stage == 0 else stage + 1


def find_backbones(model: nn.Module) -> dict[str, Sequence[int]]:
    """Return ``{prefix of its parameters' names: depths}`` of every ConvNeXt inside ``model``.

    A ConvNeXt is any module with ``downsample_layers`` and ``stages``: mmpretrain's, a compiled or a wrapped one, too;
    an isotropic one is a module with ``stem``, ``blocks`` and ``depths``, which has one entry.
    The prefix ends with a dot, or is empty where ``model`` is itself a ConvNeXt.
    """
    found: dict[str, Sequence[int]] = {}
    for name, module in model.named_modules():
        prefix = f'{name}.' if name else ''
        if any(prefix.startswith(outer) for outer in found):
            continue
        if hasattr(module, 'downsample_layers') and hasattr(module, 'stages'):
            found[prefix] = getattr(module, 'depths', None) or [len(stage) for stage in module.stages]
        elif all(hasattr(module, part) for part in ('stem', 'blocks', 'depths')):
            found[prefix] = module.depths
    return found


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Build an optimizer wrapper whose learning rate falls by ``decay_rate`` from each layer to the one below.

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
              the layer's rate), ``decay_mult`` (multiplies ``weight_decay`` and replaces the rules above) and other
              options of the optimizer's groups. The longest key that matches wins, as in mmengine.
            - ``norm_decay_mult`` (float, optional): Multiplies ``weight_decay`` for norm layers, in place of 0.
            - ``bias_decay_mult`` (float, optional): Multiplies it for biases outside norm layers, in place of 0.

    Raises:
        ArgumentValueError, ArgumentTypeError: (a ValueError, a TypeError) A setting is wrong; the message names its
            key, what it got and what it takes. Also where the model holds no ConvNeXt.

    Source: see the module.
    """

    _KEYS = ('decay_rate', 'decay_type', 'num_layers', 'custom_keys', 'norm_decay_mult', 'bias_decay_mult')

    def _validate_cfg(self):
        """Check the settings; mmengine's constructor calls this."""
        cfg = self.paramwise_cfg
        if not isinstance(cfg, Mapping):
            raise ArgumentTypeError(f'paramwise_cfg must be a dict of {", ".join(self._KEYS)}, got {cfg!r}')
        unknown = sorted(map(str, set(cfg) - set(self._KEYS)))
        if unknown:
            raise ArgumentValueError(f'paramwise_cfg takes {", ".join(self._KEYS)}, got {", ".join(unknown)}')
        if self.base_lr is None:
            raise ArgumentValueError('optim_wrapper.optimizer must give lr, the rate that layer decay scales')
        check_number('optim_wrapper.optimizer.lr', self.base_lr, 0)
        if 'weight_decay' in self.optimizer_cfg:
            check_number('optim_wrapper.optimizer.weight_decay', self.base_wd, 0)
        self._validate_decay(cfg)
        if cfg.get('num_layers') is not None:
            check_integer('paramwise_cfg.num_layers', cfg['num_layers'], 1, MAX_LAYERS)
        for key in ('norm_decay_mult', 'bias_decay_mult'):
            if cfg.get(key) is not None:
                check_number(f'paramwise_cfg.{key}', cfg[key], 0)
        if cfg.get('custom_keys') is not None:
            self._validate_custom_keys(cfg['custom_keys'])

    def _validate_decay(self, cfg):
        if 'decay_rate' not in cfg:
            raise ArgumentValueError('paramwise_cfg.decay_rate is missing: a number above 0, up to 1')
        if not 0 < check_number('paramwise_cfg.decay_rate', cfg['decay_rate'], 0) <= 1:
            raise ArgumentValueError(f"paramwise_cfg.decay_rate must be above 0, up to 1, got {cfg['decay_rate']}")
        if self.decay_type not in DECAY_TYPES:
            kind = ArgumentValueError if isinstance(self.decay_type, str) else ArgumentTypeError
            raise kind(f"paramwise_cfg.decay_type must be one of {', '.join(DECAY_TYPES)}, got {self.decay_type!r}")

    def _validate_custom_keys(self, custom_keys):
        if not isinstance(custom_keys, Mapping) or not all(
                isinstance(key, str) and isinstance(options, Mapping) for key, options in custom_keys.items()):
            raise ArgumentTypeError("paramwise_cfg.custom_keys must be a dict of dicts (part of a parameter's name -> "
                                    f'lr_mult, decay_mult), got {custom_keys!r}')
        for key, options in custom_keys.items():
            for option in ('lr_mult', 'decay_mult'):
                check_number(f'paramwise_cfg.custom_keys[{key!r}].{option}', options.get(option, 1), 0)
            own = sorted(_OWN.intersection(options))
            if own:
                raise ArgumentValueError(f'paramwise_cfg.custom_keys[{key!r}] gives {", ".join(own)}, which layer '
                                         'decay sets: give lr_mult or decay_mult')

    @property
    def decay_type(self) -> str:
        """Return the type of decay, ``layer_wise`` by default."""
        return self.paramwise_cfg.get('decay_type', DECAY_TYPES[0])

    def add_params(self, params, module, **kwargs):
        """Append the groups of all trainable parameters of ``module`` to ``params``, and log them as a table."""
        params.extend(self.group_parameters(module))
        print_log(f'Layer decay {self.paramwise_cfg["decay_rate"]} ({self.decay_type}), base rate {self.base_lr:g}\n'
                  f'{format_groups(params)}', logger='current')

    def group_parameters(self, module: nn.Module) -> list[dict]:
        """Group the trainable parameters of ``module`` by layer, rate and weight decay.

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
        groups: dict[str, dict] = {}
        seen: set[int] = set()
        for module_name, submodule in module.named_modules():
            for leaf, parameter in submodule.named_parameters(prefix=module_name, recurse=False):
                if parameter.requires_grad and id(parameter) not in seen:
                    seen.add(id(parameter))
                    self._add_param(groups, plain_name(leaf), submodule, parameter, num_layers)
        return sorted(groups.values(), key=lambda group: (group['layer_id'], group['weight_decay']))

    def _add_param(self, groups, name, module, parameter, num_layers):
        """Add a parameter to the group with its options; ``num_layers`` maps backbones' prefixes to their layers."""
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
        """Return the options of the longest custom key inside ``name``, by the alphabet where lengths are equal.

        mmengine chooses in the same way.
        """
        custom_keys = self.paramwise_cfg.get('custom_keys') or {}
        for key in sorted(sorted(custom_keys), key=len, reverse=True):
            if key in name:
                return dict(custom_keys[key])
        return {}

    def _decay_mult(self, name, module, parameter, custom):
        """Return the factor on the weight decay, and remove ``decay_mult`` from ``custom``."""
        given = custom.pop('decay_mult', None)
        is_norm, is_bias = isinstance(module, _NORMS), name.rsplit('.', 1)[-1] == 'bias'
        if given is None and is_norm:
            given = self.paramwise_cfg.get('norm_decay_mult')
        elif given is None and is_bias:
            given = self.paramwise_cfg.get('bias_decay_mult')
        if given is not None:
            return given
        return 0. if parameter.ndim == 1 or is_bias or '.grn.' in name else 1.


def format_groups(groups: Iterable[dict]) -> str:
    """Return optimizer groups as a table of layer, number of parameters, learning rate and weight decay."""
    return format_table(('layer', 'parameters', 'learning rate', 'weight decay'), (
        (g['layer_id'], f'{sum(p.numel() for p in g["params"]):,}', f'{g["lr"]:.4g}', f'{g["weight_decay"]:g}')
        for g in groups))
