"""Packaging. The tested versions are in requirements/constraints.txt."""

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# Fill this in before a release: the links of the package lead there.
URL = 'https://github.com/OWNER/cgnl_mm'
VERSION = re.search(
    r"__version__ = '(.+)'", (ROOT / 'cgnl_mm/version.py').read_text()
).group(1)

# Needed beside each host: what our own modules for it import; torchvision,
# which all three import without declaring it; scikit-learn, which holds the
# handwritten digits of the demo data.
BESIDE_HOST = [
    'filelock',
    'matplotlib>=3.6',
    'mmengine>=0.10.4,<1.0.0',
    'numpy>=1.24',
    'scikit-learn>=1.2',
    # mmengine imports pkg_resources without declaring it, and setuptools 82
    # removed it
    'setuptools<81',
    'torchvision>=0.16',
]
EXTRAS = {
    'pretrain': ['mmpretrain>=1.2.0,<1.3', *BESIDE_HOST],
    'action': [
        'mmaction2>=1.2.0,<1.3',
        # PyAV writes the demo's videos, and reads them where decord cannot
        'av>=10',
        # mmaction2 imports it without declaring it
        'importlib-metadata>=4',
        *BESIDE_HOST,
    ],
    'det': ['mmdet>=3.3.0,<3.4', *BESIDE_HOST],
    'export': ['onnx>=1.17', 'onnxscript>=0.5', 'onnxruntime>=1.20'],
    # tables, figures and statistics of grids, runs and benchmarks
    'analysis': ['pandas>=1.5', 'scipy>=1.10', 'tabulate>=0.9'],
    'docs': ['sphinx>=8', 'myst-parser>=4', 'furo>=2024.8'],
}
EXTRAS['test'] = [
    # a host without an adapter here; it imports ftfy and regex, which only
    # this extra of it declares
    'mmsegmentation[multimodal]>=1.2.2,<1.3',
    'allpairspy>=2.5',
    'hypothesis>=6.100',
    'ipykernel>=6.29',
    'mypy>=1.15',
    'nbclient>=0.10',
    'pytest>=7.4',
    'pytest-xdist>=3.3',
    'ruff>=0.5',
    'tensorboard>=2.15',
    'timm>=0.9',  # mmpretrain's TIMMBackbone
    *EXTRAS['analysis'],
    *EXTRAS['export'],
    *EXTRAS['docs'],
]
EXTRAS['all'] = sorted(
    {
        requirement
        for extra in ('pretrain', 'action', 'det', 'analysis')
        for requirement in EXTRAS[extra]
    }
)
# mmcv-lite and mmcv install into one folder and pip writes either over the
# other without a word. So mmcv-lite is apart, in none of the other extras:
# who has a compiled mmcv leaves `lite` out and keeps it.
EXTRAS['lite'] = ['mmcv-lite>=2.1.0,<2.2.0', 'torchvision>=0.16']

# Where openmim looks for them: cgnl_mm/.mim
MIM = ('configs', 'tools', 'model-index.yml')


class BuildPy(build_py):
    """Put configs and tools into the package, as OpenMMLab's packages do.

    In the command that every kind of build runs. OpenMMLab's own
    ``add_mim_extension`` waits for ``develop`` in ``sys.argv``, and since
    PEP 660 ``pip install -e`` calls ``editable_wheel``.
    """

    def finalize_options(self):
        super().finalize_options()
        mim = os.path.join(self.build_lib, 'cgnl_mm', '.mim')
        # (package, folder, where to, files), as setuptools holds them: strict
        # editable installs read this list, too
        self.data_files = self.data_files + [
            ('cgnl_mm', '', mim, list(mim_files()))
        ]

    def run(self):
        if self.editable_mode:
            link_mim(Path('cgnl_mm', '.mim'))
        else:  # without what an earlier build left
            mim = Path(self.build_lib, 'cgnl_mm', '.mim')
            shutil.rmtree(mim, ignore_errors=True)
        super().run()


def description():
    """Return the package's description, with links that hold anywhere."""
    text = (ROOT / 'DESCRIPTION.md').read_text(encoding='utf-8')
    text = re.sub(r'<!--.*?-->\n', '', text)  # for our tests
    return re.sub(r'\]\((?!\w+:)', f']({URL}/blob/main/', text)


def mim_files():
    """Yield the path of each file of ``MIM``, relative to this one."""
    for name in MIM:
        path = ROOT / name
        for file in sorted(path.rglob('*')) if path.is_dir() else [path]:
            if file.is_file() and file.suffix not in ('.pyc', '.pyo'):
                yield str(file.relative_to(ROOT))


def link_mim(mim):
    """Make ``mim`` a folder of relative links to ``MIM``."""
    shutil.rmtree(mim, ignore_errors=True)
    mim.mkdir()
    for name in filter(os.path.exists, MIM):
        (mim / name).symlink_to(Path('..', '..', name))


setup(
    name='cgnl_mm',
    version=VERSION,
    description='Compact Generalized Non-local blocks for PyTorch, OpenMMLab',
    long_description=description(),
    long_description_content_type='text/markdown',
    author='cgnl_mm contributors',
    url=URL,
    project_urls={
        'Documentation': f'{URL}/blob/main/docs/index.md',
        'Changes': f'{URL}/blob/main/CHANGELOG.md',
        'Issues': f'{URL}/issues',
    },
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords=[
        *('non-local', 'attention', 'PyTorch', 'OpenMMLab'),
        *('action recognition', 'image classification', 'object detection'),
    ],
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Typing :: Typed',
    ],
    packages=find_packages(include=['cgnl_mm', 'cgnl_mm.*']),
    package_data={'cgnl_mm': ['visualization/page.html']},
    cmdclass={'build_py': BuildPy},
    python_requires='>=3.10',
    install_requires=['torch>=2.1'],
    extras_require=EXTRAS,
    zip_safe=False,
)
