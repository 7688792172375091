"""Make batches of random images and annotations for the models of mmdet, mmseg and mmpretrain."""
import numpy as np
import torch
from mmengine.structures import InstanceData, PixelData

from convnext_mm.utils.configs import is_segmentor, type_name, walk

#: Images in a batch; batch norm over a map of one pixel needs two.
BATCH = 2
#: Boxes on each image.
BOXES = 3
#: Names of classes, for models that read text.
WORDS = ('circle', 'square', 'triangle')
#: Trackers that train on pairs of frames.
TRACKERS = ('QDTrack', 'MaskTrackRCNN', 'Mask2FormerVideo')
#: Trackers that train as their detector does, and predict on videos.
DETECTOR_TRACKERS = ('ByteTrack', 'OCSORT')


def _image(generator, channels, size, *frames):
    return torch.randint(0, 256, (*frames, channels, *size), generator=generator, dtype=torch.uint8)


def _boxes(generator, size):
    """Return boxes whose sides are at least a quarter of the image's, (BOXES, 4)."""
    height, width = size
    corner = torch.rand(BOXES, 2, generator=generator) * .5
    side = .25 + torch.rand(BOXES, 2, generator=generator) * .25
    return torch.cat([corner, corner + side], 1) * torch.tensor([width, height] * 2)


def _labels(generator, classes, count=BOXES):
    return torch.randint(0, classes, (count,), generator=generator)


def count_classes(model, default=3):
    """Return the least ``num_classes`` that a part of a model declares, but at most ``default``."""
    counts = [node[key] for _, node in walk(model) for key in ('num_classes', 'num_things_classes')
              if isinstance(node.get(key), int) and node[key] > 0]
    return min([default, *counts])


def _meta(index, size):
    return dict(img_id=index, img_path=f'{index}.png', ori_shape=size, img_shape=size, pad_shape=size,
                batch_input_shape=size, scale_factor=(1., 1.), flip=False, flip_direction=None,
                homography_matrix=np.eye(3, dtype=np.float32), text=WORDS, custom_entities=True, frame_id=0,
                video_length=1, ori_video_length=1, border=np.array([0, size[0], 0, size[1]], np.float32),
                org_height=size[0], org_width=size[1])


def detection_sample(generator, index, size, model, shrink=1., **meta):
    """Return an mmdet sample: boxes, labels, masks, proposals, and a semantic map of ``shrink`` of the image's size."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    boxes, classes = _boxes(generator, size), count_classes(model)
    masks = np.zeros((BOXES, *size), np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist()):
        mask[top:bottom, left:right] = 1
    sample = DetDataSample(metainfo={**_meta(index, size), **meta})
    sample.gt_instances = InstanceData(bboxes=boxes, labels=_labels(generator, classes),
                                       masks=BitmapMasks(masks, *size), instances_ids=torch.arange(BOXES))
    sample.ignored_instances = InstanceData(bboxes=boxes[:0], labels=torch.zeros(0, dtype=torch.long),
                                            masks=BitmapMasks(masks[:0], *size))
    sample.proposals = InstanceData(bboxes=torch.cat([_boxes(generator, size) for _ in range(20)]),
                                    scores=torch.rand(20 * BOXES, generator=generator))
    # A lane: scores of "no lane" and "lane", start in y and x, angle, length, and x at 72 heights.
    sample.lines_array = np.array([[0, 1, 0, .5, .5, 40, *range(72)]], np.float32)
    shape = (1, *(round(side * shrink) for side in size))
    sample.gt_sem_seg = PixelData(sem_seg=torch.randint(0, classes, shape, generator=generator))
    return sample


def detection_batch(model, size, channels, generator, shrink=1.):
    """Return a training batch of images for a detector."""
    return dict(inputs=[_image(generator, channels, size) for _ in range(BATCH)],
                data_samples=[detection_sample(generator, i, size, model, shrink) for i in range(BATCH)])


def track_batch(model, size, channels, generator):
    """Return a training batch of pairs of frames."""
    from mmdet.structures import TrackDataSample
    samples = []
    for _ in range(BATCH):
        sample = TrackDataSample(metainfo=dict(key_frames_inds=[0], ref_frames_inds=[1]))
        sample.video_data_samples = [detection_sample(generator, i, size, model, frame_id=i) for i in range(2)]
        for frame in sample.video_data_samples:
            frame.gt_instances.map_instances_ids = torch.arange(BOXES)
        samples.append(sample)
    return dict(inputs=[_image(generator, channels, size, 2) for _ in range(BATCH)], data_samples=samples)


def semi_supervised_batch(model, size, channels, generator):
    """Return a training batch for each of the three branches of semi-supervised training."""
    branches = ('sup', 'unsup_teacher', 'unsup_student')
    batches = {name: detection_batch(model, size, channels, generator) for name in branches}
    for name in branches:
        for i, sample in enumerate(batches[name]['data_samples']):
            sample.set_metainfo(dict(img_id=i))
    return {key: {name: batch[key] for name, batch in batches.items()} for key in ('inputs', 'data_samples')}


def segmentation_batch(model, size, channels, generator):
    """Return a training batch of images with a class for each pixel, and an edge map."""
    from mmseg.structures import SegDataSample
    samples = []
    for i in range(BATCH):
        sample = SegDataSample(metainfo=_meta(i, size))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, count_classes(model), (1, *size), generator=generator))
        sample.gt_edge_map = PixelData(data=torch.randint(0, 2, (1, *size), generator=generator))
        samples.append(sample)
    return dict(inputs=[_image(generator, channels, size) for _ in range(BATCH)], data_samples=samples)


def reid_batch(model, size, channels, generator):
    """Return a training batch of two persons with two crops each."""
    from mmdet.structures import ReIDDataSample
    sample = ReIDDataSample(metainfo=_meta(0, size))
    sample.set_gt_label(torch.tensor([0, 0, 1, 1]))
    return dict(inputs=[_image(generator, channels, size, 4)], data_samples=[sample])


def classification_batch(model, size, channels, generator):
    """Return a training batch of images with one class each."""
    from mmpretrain.structures import DataSample
    return dict(inputs=[_image(generator, channels, size) for _ in range(BATCH)],
                data_samples=[DataSample(metainfo=_meta(i, size)).set_gt_label(i) for i in range(BATCH)])


def random_batch(model, size, shrink=1., masks=True, training=True):
    """Return a random batch for a model, the same in every run.

    Args:
        model (dict): Its config.
        size (tuple[int]): Height and width of the images in pixels.
        shrink (float): Size of a detector's semantic maps as a part of the image's. Defaults to 1.
        masks (bool): Whether a detector's instances have masks. Defaults to True.
        training (bool): Whether the batch is for training; some trackers predict on other data. Defaults to True.

    Returns:
        dict: ``inputs`` and ``data_samples``, as from a data loader.
    """
    generator = torch.Generator().manual_seed(0)
    backbones = [node for path, node in walk(model) if path and path[-1] == 'backbone']
    channels = backbones[0].get('in_channels', 3)
    kind = type_name(model)
    if any(is_segmentor(node) for _, node in walk(model)):
        return segmentation_batch(model, size, channels, generator)
    if kind in TRACKERS or kind in DETECTOR_TRACKERS and not training:
        return track_batch(model, size, channels, generator)
    if 'semi_train_cfg' in model:
        return semi_supervised_batch(model, size, channels, generator)
    if kind == 'BaseReID':
        return reid_batch(model, size, channels, generator)
    if kind == 'ImageClassifier':
        return classification_batch(model, size, channels, generator)
    batch = detection_batch(model, size, channels, generator, shrink)
    if not masks:
        for sample in batch['data_samples']:
            del sample.gt_instances.masks, sample.ignored_instances.masks
    return batch
