"""Write pictures of predictions while a model is tested (`tools/test.py --show-dir`)."""
from pathlib import Path

from mmengine.hooks import Hook

from convnext_mm.drawing import (
    choose_palette,
    draw_panels,
    join_panels,
    load_image,
    name_pictures,
    read_sample,
    write_picture,
)
from convnext_mm.registry import HOOKS
from convnext_mm.utils.errors import describe_error
from convnext_mm.utils.files import WriteError
from convnext_mm.utils.text import shorten


@HOOKS.register_module()
class PredictionPicturesHook(Hook):
    """Write one PNG for each tested image: the ground truth, if the data has it, beside the prediction.

    A picture's path below ``out_dir`` is that of its image below the data set's image folder, with a number behind it
    where two images would have one path. Each process of a distributed test writes the pictures of its own images. An
    image that cannot be drawn is named and counted, and the test goes on.

    Args:
        out_dir (str): Folder of the pictures, made where it is missing.
        score_thr (float): Detections below it are left out. Defaults to 0.3, as mm draws.
    """

    def __init__(self, out_dir: str, score_thr: float = .3):
        self.out_dir, self.score_thr = Path(out_dir), score_thr

    def before_test(self, runner):
        """Find the names and colours of the classes, and the names of the pictures."""
        self._dataset, self._count, self._failed = runner.test_dataloader.dataset, 0, []
        self._names, self._pictures = self._dataset.metainfo['classes'], name_pictures(self._dataset)
        self._palette = choose_palette(self._dataset.metainfo.get('palette'), len(self._names))

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Write the picture of each image of the batch."""
        for sample in outputs:
            self._count += 1
            try:
                self._write(sample)
            except WriteError:
                raise
            except Exception as error:  # Decoders raise nearly anything.
                runner.logger.warning(f'{sample.img_path} has no picture: {describe_error(error)}')
                self._failed.append(sample.img_path)

    def _write(self, sample):
        truth, prediction = read_sample(sample, self.score_thr)
        image = load_image(self._dataset, sample.img_path)
        panels = draw_panels(image, prediction, truth, self._names, self._palette)
        write_picture(self.out_dir / self._pictures[sample.img_path], join_panels(panels))

    def after_test(self, runner):
        """Say how many images have no picture."""
        if self._failed:
            runner.logger.warning(f'{len(self._failed)} of {self._count} images have no picture in {self.out_dir}: '
                                  f'{shorten(self._failed)}')
