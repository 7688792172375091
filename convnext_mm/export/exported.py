"""Exported files in the place of mm's models, so that mm's data sets, metrics and hooks work on what they predict."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from convnext_mm.export.classifier import takes_bytes
from convnext_mm.export.detections import mask_threshold, paste
from convnext_mm.export.facts import check_facts, read_facts
from convnext_mm.export.formats import find_format
from convnext_mm.registry import MODELS
from convnext_mm.utils.configs import is_classifier, is_segmentor


def use_exported(cfg: Any, path: str) -> dict:
    """Put an exported file in the place of a config's model; return what the file says of itself.

    Raises:
        UserError: The file cannot be used, or the config contradicts it.
    """
    facts = read_facts(path)
    check_facts(path, facts, cfg)
    test = cfg.model.get('test_cfg') or {}
    if is_segmentor(cfg.model):
        head = cfg.model.decode_head
        # Of a cascade of heads, the last one predicts.
        head = head[-1] if isinstance(head, Sequence) else head
        settings = dict(type='convnext_mm.ExportedSegmentor', test_cfg=test,
                        out_channels=head.get('out_channels') or head['num_classes'],
                        align_corners=head.get('align_corners', False), threshold=head.get('threshold') or .3)
    elif is_classifier(cfg.model):
        settings = dict(type='convnext_mm.ExportedClassifier',
                        takes_bytes=takes_bytes(cfg.model.get('data_preprocessor') or {}))
    else:
        settings = dict(type='convnext_mm.ExportedDetector', mask_threshold=mask_threshold(test))
    cfg.model = dict(settings, file=str(path))
    return facts


class ExportedModel(BaseModel):
    """Runs an exported file on what mm's pipelines give to a model.

    Args:
        file (str): The file.
    """

    def __init__(self, file: str) -> None:
        super().__init__()
        self.run = find_format(file).open(Path(file))

    def test_step(self, data: Any) -> list:
        """Return the data samples of a batch with what was found in each image; images run one by one."""
        # mm reads images as BGR.
        return [self.predict(image.flip(0)[None].byte(), sample)
                for image, sample in zip(data['inputs'], data['data_samples'])]

    val_step = test_step

    def predict(self, image: Tensor, sample: Any) -> Any:
        """Return a data sample with what was found in an image, RGB, uint8, ``(1, 3, H, W)``."""
        raise NotImplementedError

    def forward(self, *_: Any, **__: Any) -> Any:
        """Refuse: exported files have no loss."""
        raise NotImplementedError('an exported file can be tested alone')


@MODELS.register_module()
class ExportedSegmentor(ExportedModel):
    """A segmentor's file, with the windows of mmseg's test around it.

    Args:
        file (str): The file.
        test_cfg (dict): mmseg's, with ``mode``, ``crop_size`` and ``stride``.
        out_channels (int): Of the logits.
        align_corners (bool): How joined logits are resized.
        threshold (float): From which probability on a pixel is of a single class.
    """

    def __init__(self, file: str, test_cfg: Any, out_channels: int, align_corners: bool, threshold: float) -> None:
        super().__init__(file)
        self.test_cfg, self.out_channels = test_cfg, out_channels
        self.align_corners, self.threshold = align_corners, threshold

    @property
    def decode_head(self) -> Any:
        """Return what mmseg's ``postprocess_result`` asks for a threshold."""
        return self

    def encode_decode(self, images: Tensor, _: Sequence[dict]) -> Tensor:
        """Return the logits of images, as large as these."""
        return torch.from_numpy(self.run(images.numpy().astype('uint8'), tuple(images.shape[2:]))[1])

    def predict(self, image: Tensor, sample: Any) -> Any:
        """Return a data sample with ``pred_sem_seg``, as large as the file of the image."""
        if self.test_cfg.get('mode', 'whole') == 'whole':
            labels = self.run(image.numpy(), tuple(sample.ori_shape[:2]))[0]
            sample.set_data(dict(pred_sem_seg=PixelData(data=torch.from_numpy(labels))))
            return sample
        from mmseg.models import BaseSegmentor, EncoderDecoder
        # mmseg sums logits in a tensor like the image, which has to be of floats for that.
        logits = EncoderDecoder.slide_inference(self, image.float(), [dict(sample.metainfo)])
        return BaseSegmentor.postprocess_result(self, logits, [sample])[0]


@MODELS.register_module()
class ExportedDetector(ExportedModel):
    """A detector's file.

    Args:
        file (str): The file.
        mask_threshold (float): From which probability on a pixel is the object's.
    """

    def __init__(self, file: str, mask_threshold: float) -> None:
        super().__init__(file)
        self.mask_threshold = mask_threshold

    def predict(self, image: Tensor, sample: Any) -> Any:
        """Return a data sample with ``pred_instances`` in the pixels of the image's file."""
        boxes, scores, labels, count, *masks = map(torch.from_numpy, self.run(image.numpy()))
        found = slice(int(count[0]))
        boxes = boxes[0, found] / boxes.new_tensor(sample.get('scale_factor', (1., 1.))).repeat(2)
        sample.pred_instances = InstanceData(bboxes=boxes, scores=scores[0, found], labels=labels[0, found])
        if masks:
            sample.pred_instances.masks = paste(masks[0][0, found], boxes, sample.ori_shape[:2], self.mask_threshold)
        return sample


@MODELS.register_module()
class ExportedClassifier(ExportedModel):
    """A classifier's file.

    Args:
        file (str): The file.
        takes_bytes (bool): Whether the model normalises its images, or else the transforms do.
    """

    def __init__(self, file: str, takes_bytes: bool) -> None:
        super().__init__(file)
        self.takes_bytes = takes_bytes

    def test_step(self, data: Any) -> list:
        """Return the data samples of a batch with the confidences of each image; images run one by one."""
        # What is normalised has the order of channels that the transforms gave it.
        images = [image.flip(0).byte() if self.takes_bytes else image.float() for image in data['inputs']]
        return [self.predict(image[None], sample) for image, sample in zip(images, data['data_samples'])]

    val_step = test_step

    def predict(self, image: Tensor, sample: Any) -> Any:
        """Return a data sample with ``pred_score`` and ``pred_label``."""
        scores = torch.from_numpy(self.run(image.numpy())[0][0])
        return sample.set_pred_score(scores).set_pred_label(scores.argmax(0, keepdim=True))
