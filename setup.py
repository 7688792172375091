"""Packaging of convnext_mm; the base needs torch and one of the two mmengine distributions, checked at import."""
import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r"^__version__ = '(.+)'$", (ROOT / 'convnext_mm' / 'version.py').read_text(), re.M).group(1)
COMMON = ['ftfy', 'regex', 'pycocotools', 'shapely>=2', 'tensorboard']
REPORT = ['bokeh>=3.9,<4']
TEST = ['pytest', 'pytest-xdist', 'hypothesis', 'safetensors']

setup(
    name='convnext_mm',
    version=VERSION,
    description='ConvNeXt backbones, recipes and checkpoints for OpenMMLab detectors and segmentors',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['convnext_mm', 'convnext_mm.*']),
    package_data={'': ['*.json', '*.css', 'templates/*.html', 'py.typed']},
    install_requires=['torch>=2.1'],
    # mmdet imports mmpretrain's models, which import names that later versions of transformers no longer have.
    extras_require={
        'onedl': ['onedl-mmengine>=0.10.8', 'onedl-mmcv>=2.3', 'onedl-mmdetection>=3.4', 'onedl-mmsegmentation>=1.3',
                  'onedl-mmpretrain>=1.3', 'transformers<5', *COMMON, *REPORT],
        'openmmlab': ['mmengine>=0.10.3', 'mmcv>=2.0.0,<2.2', 'mmdet>=3.3', 'mmsegmentation>=1.2', 'mmpretrain>=1.2',
                      'transformers<4.50', *COMMON, *REPORT],
        'report': REPORT,
        'test': TEST,
        'dev': [*TEST, 'timm', 'ruff', 'mypy', 'matplotlib', 'scikit-learn', 'lap', 'selenium'],
    },
)
