"""Write a model in another runtime's format, after the file has done what the model does."""
import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch.nn as nn
from torch import Tensor

from convnext_mm.export import classifier as classification
from convnext_mm.export import detections
from convnext_mm.export.check import CASES, Case, check, compare_labels, compare_values, images_of
from convnext_mm.export.dense import DenseGraph, check_dense
from convnext_mm.export.detector import DetectorGraph, check_detector
from convnext_mm.export.exportable import exportable
from convnext_mm.export.formats import Format, Graph, files_of
from convnext_mm.export.segmentor import SegmentorGraph, predict
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.files import whole_file


class Subject(NamedTuple):
    """What is exported, and what it is compared with.

    Attributes:
        name (str): The part of the config, for messages.
        graphs (tuple[nn.Module, ...]): The last is written, all are checked.
        reference (Callable): What the model makes of images, and of a size where ``resizes``.
        compare (Callable): As :func:`check` takes it.
        outputs (tuple[str, ...]): Names of what the first graph returns, of which each other returns the first ones.
        resizes (bool): Whether the graphs take a size.
        prepare (Callable): What is done to images of bytes before they are given to either.
        remark (Callable): Tells after the check in a sentence that it showed nothing, or returns an empty text.
    """

    name: str
    graphs: tuple[nn.Module, ...]
    reference: Callable[..., Sequence[Tensor]]
    compare: Callable[..., Sequence[str]]
    outputs: tuple[str, ...]
    resizes: bool
    prepare: Callable[[Tensor], Tensor] = lambda images: images
    remark: Callable[[], str] = lambda: ''

    def inputs(self, files: Sequence[Path] = ()) -> list[tuple[Case, Tensor]]:
        """Return the images of each case, from files in turn, or drawn, as the graphs take them."""
        return [(case, self.prepare(images_of(case, files))) for case in CASES]

    @property
    def written(self) -> tuple[str, ...]:
        """Return the names of what the written graph returns."""
        return getattr(self.graphs[-1], 'outputs', self.outputs)

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of what ``compare`` returns."""
        return self.outputs if self.compare in (compare_labels, compare_values) else detections.COLUMNS


def segmentor(model: Any, logits: bool) -> Subject:
    """Return a segmentor as it is exported: labels, or with ``logits`` both, which are checked in any case.

    One that is tested by windows has logits too, as windows are joined by them.

    Raises:
        UserError: Windows are laid over images after padding, which is inside the graph.
    """
    with_logits, test = SegmentorGraph(model, logits=True), model.test_cfg
    padded = model.data_preprocessor.test_cfg or {}
    slides = test.get('mode') == 'slide'
    if slides and (padded.get('size_divisor') or tuple(padded.get('size') or test.crop_size) != tuple(test.crop_size)):
        raise UserError('model.data_preprocessor.test_cfg cannot be exported: with model.test_cfg.mode=slide, windows '
                        'lie on padded images; take it out, or have mode=whole')
    graphs = (with_logits,) if logits or slides else (with_logits, SegmentorGraph(model))
    return Subject(f'model.decode_head={type(model.decode_head).__name__}', graphs, functools.partial(predict, model),
                   compare_labels, with_logits.outputs, True)


def detector(model: Any) -> Subject:
    """Return a detector as it is exported.

    Raises:
        UserError: The graph does not follow a part of it.
    """
    name = 'roi_head' if hasattr(model, 'roi_head') else 'bbox_head'
    refuse, kind = (check_detector, DetectorGraph) if name == 'roi_head' else (check_dense, DenseGraph)
    refuse(model)
    graph, comparison = kind(model), detections.Comparison(detections.mask_threshold(model.test_cfg))
    return Subject(f'model.{name}={type(getattr(model, name)).__name__}', (graph,),
                   functools.partial(detections.predict, model), comparison, graph.outputs, False,
                   remark=comparison.remark)


def _normalised(images):
    return (images.float() - 127.5) / 58


def backbone(model: nn.Module) -> Subject:
    """Return a backbone as it is exported: it takes normalised images, and returns its maps."""
    indices = getattr(model, 'out_indices', range(4))
    return Subject(f'model.backbone={type(model).__name__}', (model,), model, compare_values,
                   tuple(f'stage{i}' for i in indices), False, _normalised)


def classifier(model: Any, logits: bool) -> Subject:
    """Return a classifier as it is exported: confidences, with ``logits`` the logits too.

    Raises:
        UserError: Its confidences are not those of a softmax.
    """
    classification.check_classifier(model)
    graph = classification.ClassifierGraph(model, logits)
    subject = Subject(f'model.head={type(model.head).__name__}', (graph,),
                      functools.partial(classification.predict, model, logits), compare_values, graph.outputs, False)
    return subject if classification.takes_bytes(model.data_preprocessor) else subject._replace(prepare=_normalised)


@contextlib.contextmanager
def _naming(part: str, form: str) -> Iterator[None]:
    """Say which part of a model it was that an exporter does not take."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # Exporters raise nearly anything at code that they cannot follow.
        reason = (str(error).strip().splitlines() or [''])[0][:200]
        raise UserError(f'{part} cannot be exported to {form}: {type(error).__name__}: {reason}') from error


def export(subject: Subject, form: Format, path: Path, facts: dict, files: Sequence[Path] = (),
           finish: Callable[[Path], None] = lambda path: None) -> list[tuple]:
    """Write a model to a file, whole or not at all, after the file has been run and compared with the model.

    Args:
        subject (Subject): What to export.
        form (Format): That of the file's ending.
        path (Path): The file; one that is there is replaced.
        facts (dict): Kept in the file, ready for JSON.
        files (Sequence[Path]): Images to check with, in place of drawn ones.
        finish (Callable): What is done to the file after the check. Defaults to nothing.

    Returns:
        list[tuple]: The rows of :func:`check`.

    Raises:
        UserError: An exporter does not take a part of the model, or the file does something else than the model.
    """
    inputs = subject.inputs(files)
    rows: list[tuple] = []
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(whole_file(path))
        for other in files_of(path)[1:]:
            # Its temporary name has the same stem, by which the runtime finds it.
            stack.enter_context(whole_file(other))
        for module in subject.graphs:
            outputs = getattr(module, 'outputs', subject.outputs)
            with _naming(subject.name, path.suffix):
                with exportable(module):
                    form.write(Graph(module, inputs[0][1], subject.resizes, outputs), temporary, facts)
                run = form.open(temporary)
                found = check(run, subject.reference, subject.compare, inputs, subject.resizes)
            rows = rows or found
        finish(temporary)
    return rows
