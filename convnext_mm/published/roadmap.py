"""The roadmap from ResNet to ConvNeXt: what each step changes, and what is published of it.

``STEPS`` is the paper's figure 2 from top to bottom, twice: in the regime of ResNet-50, which ends in ConvNeXt-T, and
of ResNet-200, which ends in ConvNeXt-B. A network is ``REGIMES[regime]`` with the changes of all steps up to its own;
see :func:`design_of`.

Source: arXiv:2201.03545v2, section 2, figures 2 to 4, tables 10 and 11. Accuracies are top-1 on ImageNet-1K at 224;
operations are multiply-accumulates of convolutions and linear layers, the classifier included, in 10^9.
"""
from collections.abc import Mapping
from typing import Any, NamedTuple

from convnext_mm.published.archs import NUM_STAGES
from convnext_mm.utils.arguments import check_integer
from convnext_mm.utils.errors import ArgumentTypeError, ArgumentValueError


class Design(NamedTuple):
    """What a network of the roadmap is made of. The defaults are those of a ResNet."""

    #: Blocks of the four stages.
    depths: tuple
    #: Channels of the first stage's k x k convolutions; those of each further stage are twice as many.
    width: int
    #: Of random weights: ``kaiming`` (torchvision's) or ``normal`` of deviation 0.02.
    weights: str = 'kaiming'
    #: Initial value of the scale of each block's branch; 0 for none.
    layer_scale_init_value: float = 0.
    #: Stochastic depth of the last block.
    drop_path_rate: float = 0.
    #: ``resnet`` (7x7 of stride 2, max pooling) or ``patchify`` (4x4 of stride 4).
    stem: str = 'resnet'
    #: ``bottleneck`` (1x1 to a quarter, kxk, 1x1), ``inverted`` (1x1 to four times, kxk, 1x1) or ``moved_up`` (kxk, 1x1
    #: to four times, 1x1).
    block: str = 'bottleneck'
    #: Whether each channel of the k x k convolution reads one channel alone.
    depthwise: bool = False
    #: k.
    kernel_size: int = 3
    #: ``ReLU`` or ``GELU``.
    activation: str = 'ReLU'
    #: ``all``: after each convolution of a block but the last, and after the addition; ``one``: between both 1x1.
    activations: str = 'all'
    #: ``all``: after each convolution of a block; ``one``: between k x k and 1x1.
    norms: str = 'all'
    #: ``BN`` or ``LN``.
    norm: str = 'BN'
    #: ``block``: the first block of a stage has the stride; ``layer``: a layer before the stage, of a norm and a 2x2
    #: convolution.
    downsampling: str = 'block'

    @property
    def channels(self) -> tuple[int, ...]:
        """Return the channels of the four stages' maps."""
        expansion = 4 if self.block == 'bottleneck' else 1
        return tuple(expansion * self.width * 2 ** stage for stage in range(NUM_STAGES))


class Both(NamedTuple):
    """A value for each regime."""

    resnet50: Any
    resnet200: Any


class Figures(NamedTuple):
    """What is known of a step in a regime.

    Attributes:
        top1 (float): Published accuracy in percent.
        deviation (float, optional): Its standard deviation over three seeds; None where one run was made.
        gmacs (float): Published operations.
        computed_gmacs (float): The operations, computed by hand from the table below.
        misprint (bool): Whether the published operations are none that the network can have. Defaults to False.
    """

    top1: float
    deviation: float | None
    gmacs: float
    computed_gmacs: float
    misprint: bool = False


class Step(NamedTuple):
    """A step of the roadmap.

    Attributes:
        name (str): Its name.
        title (str): What is done, in a few words.
        part (str): The part of the paper that it belongs to; empty for the network at the start.
        changes (dict): Fields of ``Design`` -> new value, or ``Both``.
        figures (Both): ``Figures`` of both regimes.
        adopted (bool): Whether the steps after it keep the change.
    """

    name: str
    title: str
    part: str
    changes: Mapping
    figures: Both
    adopted: bool = True


REGIMES = {'resnet50': Design((3, 4, 6, 3), 64), 'resnet200': Design((3, 24, 36, 3), 64)}
#: The ConvNeXt at the end of each regime, a key of ``ARCHS``.
ENDS = {'resnet50': 'tiny', 'resnet200': 'base'}
#: What the paper's figure calls both regimes, by their ends.
TITLES = {'resnet50': 'ResNet-50 to ConvNeXt-T', 'resnet200': 'ResNet-200 to ConvNeXt-B'}

STEPS = (
    Step('resnet', 'ResNet', '', {},
         Both(Figures(76.13, None, 4.09, 4.0892), Figures(78.20, None, 15.01, 15.0075))),
    Step('recipe', 'training recipe', 'recipe',
         dict(weights='normal', layer_scale_init_value=1e-6, drop_path_rate=Both(.1, .5)),
         Both(Figures(78.82, .07, 4.09, 4.0892), Figures(81.14, None, 15.01, 15.0075))),
    Step('stage_ratio', 'stage ratio', 'macro design',
         dict(depths=Both((3, 3, 9, 3), (3, 3, 27, 3)), width=Both(64, 84)),
         Both(Figures(79.36, .07, 4.53, 4.5259), Figures(81.33, None, 14.52, 14.5184))),
    Step('patchify_stem', '"patchify" stem', 'macro design', dict(stem='patchify'),
         Both(Figures(79.51, .18, 4.42, 4.4175), Figures(81.59, None, 14.38, 14.3762))),
    Step('depthwise_conv', 'depthwise convolution', 'ResNeXt', dict(depthwise=True),
         Both(Figures(78.28, .08, 2.35, 2.3495), Figures(80.54, None, 7.23, 7.2344))),
    Step('increase_width', 'more width', 'ResNeXt', dict(width=Both(96, 128)),
         Both(Figures(80.50, .02, 5.27, 5.2680), Figures(81.85, None, 16.76, 16.7639))),
    Step('inverted_bottleneck', 'inverted bottleneck', 'inverted bottleneck', dict(block='inverted'),
         Both(Figures(80.64, .03, 4.64, 4.6444), Figures(82.64, None, 15.68, 15.6794))),
    Step('move_up_depthwise', 'depthwise convolution first', 'large kernels', dict(block='moved_up'),
         Both(Figures(79.92, .08, 4.07, 4.0651), Figures(82.04, None, 14.63, 14.6270))),
    Step('kernel_5', 'kernel 5', 'large kernels', dict(kernel_size=5),
         Both(Figures(80.35, .08, 4.10, 4.0973), Figures(82.32, None, 14.70, 14.6989))),
    Step('kernel_7', 'kernel 7', 'large kernels', dict(kernel_size=7),
         Both(Figures(80.57, .14, 4.15, 4.1456), Figures(82.30, None, 14.81, 14.8066))),
    Step('kernel_9', 'kernel 9', 'large kernels', dict(kernel_size=9),
         Both(Figures(80.57, .06, 4.21, 4.2100), Figures(82.27, None, 14.95, 14.9503)), adopted=False),
    Step('kernel_11', 'kernel 11', 'large kernels', dict(kernel_size=11),
         Both(Figures(80.47, .11, 4.29, 4.2906), Figures(82.18, None, 15.13, 15.1300)), adopted=False),
    Step('gelu', 'ReLU to GELU', 'micro design', dict(activation='GELU'),
         Both(Figures(80.62, .14, 4.15, 4.1456), Figures(82.19, None, 14.81, 14.8066))),
    Step('fewer_activations', 'fewer activations', 'micro design', dict(activations='one'),
         Both(Figures(81.27, .06, 4.15, 4.1456), Figures(82.71, None, 14.81, 14.8066))),
    Step('fewer_norms', 'fewer norms', 'micro design', dict(norms='one'),
         Both(Figures(81.41, .09, 4.15, 4.1456), Figures(83.17, None, 14.81, 14.8066))),
    # Another norm has no convolution more: figure 2 prints 4.2, and table 11 leaves the operations as they are.
    Step('layer_norm', 'BatchNorm to LayerNorm', 'micro design', dict(norm='LN'),
         Both(Figures(81.47, .09, 4.46, 4.1456, misprint=True), Figures(83.35, None, 14.81, 14.8066))),
    # This is ConvNeXt-T: 4.5 in table 1 and 4.456 when counted.
    Step('separate_downsampling', 'separate downsampling layers', 'micro design', dict(downsampling='layer'),
         Both(Figures(81.97, .06, 4.49, 4.4555, misprint=True), Figures(83.60, None, 15.35, 15.3547))),
)

#: Top-1 and operations of the transformers that both regimes are compared with (tables 10 and 11).
PEERS = Both(('Swin-T', 81.3, 4.50), ('Swin-B', 83.5, 15.43))


def find_step(step: int | str) -> int:
    """Return the number of a step given by its number or its name.

    Raises:
        ArgumentValueError, ArgumentTypeError: There is no such step; the message lists all.
    """
    names = [known.name for known in STEPS]
    if isinstance(step, str):
        if step not in names:
            raise ArgumentValueError(f'step must be a number from 0 to {len(STEPS) - 1} or one of {", ".join(names)}, '
                                     f'got {step!r}')
        return names.index(step)
    try:
        return check_integer('step', step, 0, len(STEPS) - 1)
    except (ArgumentTypeError, ArgumentValueError) as error:
        raise type(error)(f'{error}; its name will do, too: {", ".join(names)}') from None


def check_regime(regime: str) -> str:
    """Return a regime, a key of ``REGIMES``.

    Raises:
        ArgumentValueError: There is no such regime; the message lists both.
    """
    if not isinstance(regime, str) or regime not in REGIMES:
        raise ArgumentValueError(f'regime must be one of {", ".join(REGIMES)}, got {regime!r}')
    return regime


def design_of(regime: str, step: int | str) -> Design:
    """Return the design of a step: that of the ResNet, with the changes of the adopted steps before it and its own.

    Args:
        regime (str): ``resnet50`` or ``resnet200``.
        step (int | str): Number or name of the step.

    Raises:
        ArgumentValueError, ArgumentTypeError: There is none.
    """
    design, number = REGIMES[check_regime(regime)], find_step(step)
    for i, known in enumerate(STEPS[:number + 1]):
        if known.adopted or i == number:
            design = design._replace(**{field: getattr(value, regime) if isinstance(value, Both) else value
                                        for field, value in known.changes.items()})
    return design
