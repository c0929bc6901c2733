"""configs/README.md and metafile.yml list every config once, as it is."""

import re
from pathlib import Path

import modelindex
import pytest
import yaml

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / 'configs').glob('*.py'))
ROW = re.compile(r'^\| \[`(\w+)`\]\((\w+)\.py\) \|(.*)\|$', re.MULTILINE)


def test_table_has_a_row_for_every_config():
    rows = ROW.findall((ROOT / 'configs/README.md').read_text())
    assert all(shown == linked for shown, linked, _ in rows)
    assert sorted(shown for shown, *_ in rows) == NAMES


@pytest.mark.parametrize(
    'name, published',
    [  # one of each table of FACTS, section 3
        ('i3d_r101_cgnl_minikinetics', '79.54 / 93.84'),
        ('i3d_r50_cgnl_g1_minikinetics', '77.16 / 93.56'),
        ('i3d_r50_nl_ucf101', '82.88 / 95.74'),
        ('i3d_r50_nl5_kinetics400', '74.80 / 92.07'),
        ('r50_cgnl5_cub', '85.68 / 96.69'),
        ('r50_cgnl_cub', '87.06 / 96.91'),
        ('r50_control_cub', '84.11 / 96.23'),
        ('r101_cgnl5_g16_cub', '86.43'),
        ('r152_cgnlx_imagenet', '79.37 / 94.47'),
        ('mask_rcnn_r50_c4_cgnl_coco', '36.3 / 32.1'),
    ],
)
def test_published_numbers_stay_what_they_are(name, published):
    rows = {
        name: cells
        for name, _, cells in ROW.findall(
            (ROOT / 'configs/README.md').read_text()
        )
    }
    cells = [cell.strip() for cell in rows[name].split('|')]
    assert any(cell.startswith(published) for cell in cells[1:-1])
    assert cells[-1] == 'nothing yet'


def test_metafile_fits_the_format_and_the_configs():
    index = modelindex.load(str(ROOT / 'model-index.yml'))
    # OpenMMLab's paths are of the repository, the checker's of the metafile
    problems = [p for p in index.check(silent=True) if 'README' not in p]
    assert not problems
    raw = yaml.safe_load((ROOT / 'configs/metafile.yml').read_text())
    (collection,) = raw['Collections']
    assert (ROOT / collection['README']).is_file()
    models = {model['Name']: model for model in raw['Models']}
    assert len(models) == len(raw['Models'])
    assert sorted(models) == NAMES
    for name, model in models.items():
        assert model['Config'] == f'configs/{name}.py'
        assert model['In Collection'] == collection['Name']
        # foreign numbers are not ours to claim
        assert not {'Results', 'Weights'} & set(model)
