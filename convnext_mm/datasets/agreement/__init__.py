"""Files and settings of a config that must agree, compared before anything is built."""
from collections.abc import Sequence
from typing import Any

from convnext_mm.datasets.agreement.categories import check_order
from convnext_mm.datasets.agreement.channels import check_channels
from convnext_mm.datasets.agreement.evaluated import check_evaluated
from convnext_mm.datasets.agreement.ignored import check_ignored, check_reduced
from convnext_mm.datasets.agreement.lost import check_lost
from convnext_mm.datasets.agreement.mixing import check_mixing
from convnext_mm.datasets.agreement.ranks import check_ranks
from convnext_mm.datasets.agreement.weights import check_class_weights
from convnext_mm.datasets.outlines import forget_outlines

__all__ = ['check_agreement']


def check_agreement(cfg: Any, splits: Sequence[str]) -> None:
    """Make sure that the files and settings of a config agree.

    Args:
        cfg (mmengine.Config): A detection, segmentation or classification config.
        splits (Sequence[str]): Those of ``train``, ``val`` and ``test`` that will be used.

    Raises:
        UserError: Two do not; it names both values, and the config keys to set.
    """
    try:
        for check in (check_ignored, check_reduced, check_class_weights, check_lost, check_channels, check_evaluated,
                      check_order, check_mixing, check_ranks):
            check(cfg, splits)
    finally:
        forget_outlines()
