"""Print what training an isotropic ConvNeXt keeps in memory, beside a ViT of its size: python benchmarks/isotropic.py

The paper's table 2 has the memory of a GPU with 32 images; here are the bytes that autograd keeps for as many, in
float32, counted on two and scaled, and those of the parameters, their gradients and AdamW's moments. mmpretrain's ViT
is the peer. Half a minute.
"""
import measure
import torch
from mmengine.logging import MMLogger
from mmpretrain.models import VisionTransformer

from convnext_mm import IsotropicConvNeXt
from convnext_mm.published.imagenet import published_imagenet
from convnext_mm.utils.text import format_table

#: Images at once here.
BATCH = 2


def gigabytes(model):
    """Return the memory of training a backbone with as many images as the paper has."""
    images = torch.rand(BATCH, 3, 224, 224)
    # mmpretrain's returns nothing.
    model.train()
    parameters = list(model.parameters())
    kept, _ = measure.kept_bytes(lambda: model(images), parameters)
    own = 4 * sum(p.numel() * p.element_size() for p in parameters)
    return (kept * published_imagenet()['train_memory']['images'] / BATCH + own) / 1e9


def main() -> None:
    """Measure all sizes, and print a table."""
    MMLogger.get_instance('isotropic', log_level='ERROR')
    lines = []
    for row, peer in zip(published_imagenet()['isotropic'], published_imagenet()['vit']):
        size = row['arch'].removeprefix('isotropic_')
        recipe = published_imagenet()['recipes']['isotropic']
        ours = gigabytes(IsotropicConvNeXt(size, layer_scale_init_value=recipe['layer_scale_init_value'][row['arch']],
                                           out_norms=False))
        theirs = gigabytes(VisionTransformer({'small': 'deit-small'}.get(size, size), img_size=224, patch_size=16))
        lines.append((size, f'{ours:.1f}', f'{theirs:.1f}', f'{ours / theirs:.2f}', row['train_memory_gb'],
                      peer['train_memory_gb'], f'{row["train_memory_gb"] / peer["train_memory_gb"]:.2f}'))
    print(format_table(('', 'ConvNeXt here', 'ViT here', 'ratio', 'published', 'published ViT', 'ratio'), lines))


if __name__ == '__main__':
    main()
