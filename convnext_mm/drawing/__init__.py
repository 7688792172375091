"""Pictures of predictions, one code for all who draw them: pixels and plain arrays in, RGB pictures out."""
from convnext_mm.drawing.classification import Classes
from convnext_mm.drawing.colours import choose_palette, palette
from convnext_mm.drawing.datasets import load_image, name_pictures
from convnext_mm.drawing.images import to_rgb, write_picture
from convnext_mm.drawing.instances import Instances, draw_instances
from convnext_mm.drawing.panels import Panels, contact_sheet, draw_panels, join_panels, side_by_side, with_legend
from convnext_mm.drawing.samples import read_sample
from convnext_mm.drawing.segmentation import UNLABELLED, draw_segmentation, segmentation_legend

__all__ = ['UNLABELLED', 'Classes', 'Instances', 'Panels', 'choose_palette', 'contact_sheet', 'draw_instances',
           'draw_panels', 'draw_segmentation', 'join_panels', 'load_image', 'name_pictures', 'palette', 'read_sample',
           'segmentation_legend', 'side_by_side', 'to_rgb', 'with_legend', 'write_picture']
