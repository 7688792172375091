"""Packaging of convnext_mm: the wheel holds configs and tools where OpenMMLab's packages have theirs.

Nothing is required that an installer might exchange beside another toolbox, torch above all: what is missing is told
at the first use (``convnext_mm/utils/needed.py``).
"""
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
VERSION = re.search(r"^__version__ = '(.+)'$", (ROOT / 'convnext_mm' / 'version.py').read_text(), re.M).group(1)
COMMON = ['ftfy', 'regex', 'pycocotools', 'shapely>=2', 'tensorboard']
REPORT = ['bokeh>=3.9,<4']
PRETRAIN = ['timm>=1.0']
EVALUATION = ['faster-coco-eval>=1.8']
EXPORT = ['onnx', 'onnxscript', 'onnxruntime', 'openvino']
# Of the original, imagecorruptions, one corruption in five fails on a current NumPy or scikit-image.
ROBUSTNESS = ['imagecorruptions-imaug>=1.1.5']
TEST = ['pytest', 'pytest-xdist', 'hypothesis', 'safetensors']


class BuildWithConfigs(build_py):
    """Copy configs, tools and the index of models into ``convnext_mm/.mim`` of what is built."""

    def run(self):
        """Build the package, then copy; a clone that is installed in place has its configs beside the package."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, 'convnext_mm', '.mim')
        # An earlier build may have left a file that is gone since.
        shutil.rmtree(target, ignore_errors=True)
        # `setup_env.py` makes the environment of a clone.
        ignored = shutil.ignore_patterns('__pycache__', 'setup_env.py')
        for folder in ('configs', 'tools'):
            shutil.copytree(ROOT / folder, target / folder, ignore=ignored)
        for index in ROOT.glob('model-index.yml'):
            shutil.copy(index, target)


def read_description():
    """Return the README without pictures and links into the repository, which lead nowhere outside of it."""
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    text = re.sub(r'!\[[^\]]*\]\((?!https://)[^)]*\)\n?', '', text)
    return re.sub(r'\[([^\]]+)\]\((?!https://)[^)]*\)', r'\1', text)


setup(
    name='convnext_mm',
    version=VERSION,
    description='ConvNeXt backbones, recipes and checkpoints for OpenMMLab detectors and segmentors',
    long_description=read_description(),
    long_description_content_type='text/markdown',
    author='convnext_mm contributors',
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords=['ConvNeXt', 'OpenMMLab', 'mmdetection', 'mmsegmentation', 'object detection', 'instance segmentation',
              'semantic segmentation', 'layer-wise learning rate decay'],
    classifiers=[
        'Development Status :: 4 - Beta',
        'Environment :: Console',
        'Environment :: GPU',
        'Intended Audience :: Developers',
        'Intended Audience :: Science/Research',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3 :: Only',
        *(f'Programming Language :: Python :: 3.{minor}' for minor in range(10, 14)),
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Recognition',
        'Typing :: Typed',
    ],
    python_requires='>=3.10',
    packages=find_packages(include=['convnext_mm', 'convnext_mm.*']),
    package_data={'': ['*.json', '*.css', 'templates/*.html', 'py.typed']},
    cmdclass={'build_py': BuildWithConfigs},
    entry_points={'console_scripts': ['convnext-mm = convnext_mm.apis.cli:command_line']},
    # mmdet imports mmpretrain's models, which import names that later versions of transformers no longer have.
    extras_require={
        'onedl': ['onedl-mmengine>=0.10.8', 'onedl-mmcv>=2.3', 'onedl-mmdetection>=3.4', 'onedl-mmsegmentation>=1.3',
                  'onedl-mmpretrain>=1.3', 'transformers<5', *COMMON, *REPORT],
        'openmmlab': ['mmengine>=0.10.3', 'mmcv>=2.0.0,<2.2', 'mmdet>=3.3', 'mmsegmentation>=1.2', 'mmpretrain>=1.2',
                      'transformers<4.50', *COMMON, *REPORT],
        'report': REPORT,
        'export': EXPORT,
        'pretrain': PRETRAIN,
        'evaluation': EVALUATION,
        'robustness': ROBUSTNESS,
        'test': TEST,
        'dev': [*TEST, *EVALUATION, *EXPORT, *PRETRAIN, *ROBUSTNESS, 'ruff', 'mypy', 'matplotlib', 'scikit-learn',
                'lap', 'selenium'],
    },
)
