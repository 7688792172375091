"""What stays of an exact file's results in a smaller one: both run on the same images, and it is counted."""
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from convnext_mm.export.formats import Run
from convnext_mm.utils.text import format_table

#: Detections with at least this score are counted; they stay where one of the same class overlaps so much.
SCORE, OVERLAP = .3, .75
#: A value stays that is within this share of the largest one.
NEAR = 2e-3

#: Images, ``(N, 3, H, W)``, and the size of the result for a segmentor.
Inputs = Sequence[tuple[NDArray, ...]]


class Tried(NamedTuple):
    """What was found of a file.

    Attributes:
        kept (str): What stayed in float32.
        share (float): Of results that stayed what they were.
        megabytes (float): Size.
        milliseconds (float): Time of an image, the median.
    """

    kept: str
    share: float
    megabytes: float
    milliseconds: float


class Counted(NamedTuple):
    """What of a file's results is counted.

    Attributes:
        name (str): What they are.
        share (Callable): ``share(expected, found)`` returns which share of a run's results stayed what they were.
    """

    name: str
    share: Callable[[Sequence[NDArray], Sequence[NDArray]], float]


def counted(outputs: Sequence[str]) -> Counted:
    """Return what is counted of a graph with these outputs."""
    return COUNTED.get(outputs[0], Counted('values', values_kept))


def compare_files(runs: Sequence[Run], inputs: Inputs, what: Counted) -> tuple[float, list[float]]:
    """Return the share of a second file's results that are those of the first, and milliseconds of an image of both.

    The first run of a size, in which runtimes prepare for it, is not timed. Files take turns.
    """
    times: list[list] = [[] for _ in runs]
    shares, seen = [], set()
    for entry in inputs:
        results = []
        for number, run in enumerate(runs):
            if (number, entry[0].shape) not in seen:
                seen.add((number, entry[0].shape))
                run(*entry)
            start = time.perf_counter()
            results.append(run(*entry))
            times[number].append((time.perf_counter() - start) * 1e3 / len(entry[0]))
        shares.append(what.share(*results))
    return float(np.mean(shares)), [statistics.median(row) for row in times]


def labels_kept(expected: Sequence[NDArray], found: Sequence[NDArray]) -> float:
    """Return which share of the pixels has the same label."""
    return (expected[0] == found[0]).mean()


def values_kept(expected: Sequence[NDArray], found: Sequence[NDArray]) -> float:
    """Return which share of the values is near what it was, of the output of which fewest are."""
    return min((np.abs(a - b) <= NEAR * np.abs(a).max()).mean() for a, b in zip(expected, found))


def detections_kept(expected: Sequence[NDArray], found: Sequence[NDArray]) -> float:
    """Return which share of the detections has one of the same class in nearly the same place."""
    from torchvision.ops import box_iou
    stayed: list = []
    for boxes, scores, labels, count, others, other_labels, other_count in zip(*expected[:4], found[0], *found[2:4]):
        certain, other = np.flatnonzero(scores[:count] >= SCORE), slice(other_count)
        overlaps = box_iou(torch.from_numpy(boxes[certain]), torch.from_numpy(others[other])).numpy()
        stayed.extend(((labels[certain, None] == other_labels[None, other]) & (overlaps >= OVERLAP)).any(1))
    return float(np.mean(stayed)) if stayed else 1.


COUNTED = {'labels': Counted('labels', labels_kept), 'boxes': Counted('detections', detections_kept)}


def format_tried(tried: Sequence[Tried], what: Counted) -> str:
    """Return what was tried as a table."""
    rows = [(row.kept, f'{row.share:.2%}', f'{row.megabytes:.1f}', f'{row.milliseconds:.1f}') for row in tried]
    return format_table(('in float32', f'same {what.name}', 'MB', 'ms an image'), rows)
