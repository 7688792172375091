"""Write pictures of predictions while a model is tested (`tools/test.py --show-dir`)."""
import os
from pathlib import Path

from mmengine.fileio import get
from mmengine.hooks import Hook

from convnext_mm.drawing import choose_palette, decode_image, draw_panels, join_panels, read_sample, write_picture
from convnext_mm.registry import HOOKS
from convnext_mm.utils.files import png_name


def image_folder(dataset) -> str:
    """Return the folder below which all images of a data set are; empty where the data set does not tell."""
    if hasattr(dataset, 'datasets'):
        return os.path.commonpath([os.path.abspath(image_folder(part)) for part in dataset.datasets])
    if hasattr(dataset, 'dataset'):
        return image_folder(dataset.dataset)
    prefixes = getattr(dataset, 'data_prefix', {})
    # mmdet calls the folder `img`, mmseg `img_path`.
    return prefixes.get('img') or prefixes.get('img_path') or ''


@HOOKS.register_module()
class PredictionPicturesHook(Hook):
    """Write one PNG for each tested image: the ground truth, if the data has it, beside the prediction.

    A picture's path below ``out_dir`` is that of its image below the data set's image folder. Each process of a
    distributed test writes the pictures of its own images.

    Args:
        out_dir (str): Folder of the pictures, made where it is missing.
        score_thr (float): Detections below it are left out. Defaults to 0.3, as mm draws.
    """

    def __init__(self, out_dir: str, score_thr: float = .3):
        self.out_dir, self.score_thr = Path(out_dir), score_thr

    def before_test(self, runner):
        """Find the names and colours of the classes, and the folder of the images."""
        dataset = runner.test_dataloader.dataset
        self._folder, self._names = image_folder(dataset), dataset.metainfo['classes']
        self._palette = choose_palette(dataset.metainfo.get('palette'), len(self._names))

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Write the picture of each image of the batch."""
        for sample in outputs:
            truth, prediction = read_sample(sample, self.score_thr)
            panels = draw_panels(decode_image(get(sample.img_path)), prediction, truth, self._names, self._palette)
            write_picture(self.out_dir / png_name(sample.img_path, self._folder), join_panels(panels))
