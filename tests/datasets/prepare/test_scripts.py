"""What the five scripts share: what is read, written, counted, refused."""

import os
import re
from pathlib import Path

import pytest
from miniatures import (
    BIRDS,
    CLIPS,
    CUB_IMAGES,
    FLOWS,
    MMACTION_LIST,
    TRAIN,
    TRUTH,
    VAL,
    WNIDS,
    action,
    clip_path,
    contents,
    write_jpeg,
)

from cgnl_mm.errors import SetupError

SAID = dict(
    coco=('train2017: 4 of 4 images found, 0 to 2 instances a class\n',
          'val2017 has 2 usable images, the complete one 5,000'),
    cub=('train: 6 of 6 images found, 2 to 2 a class\n',
         'test has 3 usable images, the complete one 5,794',
         'CUB-200-2011 has 200 classes'),
    kit=('train: 6 of 6 images found, 2 to 2 a class\n',
         'val has 5 usable images, the complete one 50,000',
         'ImageNet-1k has 1000 classes'),
    csv=('train: 5 of 6 clips found, 0 to 2 a class; 1 missing\n',
         'val has 3 usable clips, the complete one 5,000',
         'Mini-Kinetics has 200 classes', '       2  zumba\n'),
    ucf101=('train 3: 12 of 12 clips found, 4 to 4 a class\n',
            'val 2 has 6 usable clips, the complete one 3,734',
            'train 1 has 12 usable clips, the complete one 9,537',
            'UCF101 has 101 classes'),
)  # fmt: skip
CHECKED = 'coco', 'cub'  # good data are left as they are


@pytest.mark.parametrize('flow', FLOWS)
def test_host_reads_what_the_script_says_and_writes(flow, start, samples):
    run, before = start(flow), contents()
    run('--dry-run')
    assert contents() == before
    out = run('--per-class')
    assert (contents() == before) == (flow in CHECKED)
    assert samples(flow) == [expected for _, expected in FLOWS[flow].reads]
    for text in SAID.get(flow, ()):
        assert text in out
    # again: nothing changes
    after = contents()
    assert 'wrote' not in run()
    assert contents() == after


def link(path):
    path.unlink()
    path.symlink_to('nowhere')


def folder(path):
    path.unlink()
    path.mkdir()


KINDS = dict(
    missing=Path.unlink,
    zero=lambda path: path.write_bytes(b''),
    half=lambda path: os.truncate(path, path.stat().st_size // 2),
    html=lambda path: path.write_bytes(b'<html>not found</html>'),
    link=link,
    folder=folder,
    new=write_jpeg,
)
ROW = 'zumba,ccccccccccc,1,11,train,0'
UNREADABLE = 'unreadable: UnidentifiedImageError: cannot'
CUT = 'unreadable: OSError: image file is truncated'
NO_LIST = 'path that no list can hold'
YOYO = [action('YoYo', group) for group in range(7)]


def birds(*rows):
    return [
        (split, CUB_IMAGES[i][0], BIRDS[CUB_IMAGES[i][1]], reason)
        for split, i, reason in rows
    ]


BROKEN = dict(
    coco=(
        'data/coco/train2017',
        dict(zip([f'{i:012d}.jpg' for i in (7, 8, 9)],
                 ('missing', 'zero', 'half'))),
        '--decode --workers 2 --out report',
        [('train2017', '000000000007.jpg', 'None', 'missing'),
         ('train2017', '000000000008.jpg', 'None', 'zero bytes'),
         ('train2017', '000000000009.jpg', 'None', CUT)],
        ('; 1 missing; 1 unreadable; 1 zero bytes\n',
         'warning: mmdet reads every image'),
    ),
    cub=(
        'data/CUB_200_2011/images',
        dict(zip([CUB_IMAGES[i][0] for i in (0, 1, 3, 5, 8)],
                 ('missing', 'zero', 'half', 'html', 'folder'))),
        '--out report',
        birds(('train', 0, 'missing'), ('train', 1, 'zero bytes'),
              ('train', 3, CUT), ('test', 5, UNREADABLE),
              ('test', 8, 'no regular file')),
        ('train: 3 of 6 images found, 0 to 2 a class; 1 missing; ',
         'warning: mmpretrain reads every image of images.txt'),
    ),
    kit=(
        'data/imagenet',
        {f'train/{TRAIN[0]}': 'zero', f'train/{TRAIN[1]}': 'half',
         'train/stray.JPEG': 'new', f'train/{WNIDS[1]}/a b.jpeg': 'new',
         f'train/{WNIDS[1]}/caf\u00e9\n1.JPEG': 'new',
         f'val/{VAL[0][0]}': 'missing', f'val/{VAL[1][0]}': 'missing',
         f'val/{WNIDS[2]}/{VAL[1][0]}': 'new', 'val/9.JPEG': 'new'},
        '--decode',
        [('train', 'stray.JPEG', 'None', 'in no class folder'),
         ('train', TRAIN[0], WNIDS[0], 'zero bytes'),
         ('train', TRAIN[1], WNIDS[0], CUT),
         ('train', f'{WNIDS[1]}/caf\\xe9\\n1.JPEG', WNIDS[1], NO_LIST),
         ('val', '9.JPEG', 'None', 'no label'),
         ('val', f'{WNIDS[2]}/{VAL[1][0]}', WNIDS[2],
          f'contradictory label: {WNIDS[0]} in the list'),
         ('val', VAL[0][0], WNIDS[2], 'missing')],
        ('train: 5 of 9 images found, 0 to 3 a class; 1 in no class',
         'val: 3 of 6 images found, 0 to 2 a class; 1 contradictory l'),
    ),
    ucf101=(
        'data/ucf101/videos',
        {YOYO[1]: 'missing', YOYO[2]: 'zero', YOYO[3]: 'link',
         'YoYo/caf\u00e9\n.avi': 'new', YOYO[4]: 'missing',
         f'a b/{YOYO[4][5:]}': 'new'},
        '',
        [('train 1', YOYO[3], 'YoYo', 'dead link'),
         ('train 1', YOYO[4], 'YoYo', NO_LIST),
         ('val 1', YOYO[1], 'YoYo', 'missing'),
         ('val 1', YOYO[2], 'YoYo', 'zero bytes')],
        ('val 1: 4 of 6 clips found, 0 to 2 a class; 1 missing; 1 zer',
         '3 classes, 0 repeated lines, 1 .avi files in no list'),
    ),
    csv=(
        '',
        {clip_path(*CLIPS[0]): 'zero', clip_path(*CLIPS[3]): 'link'},
        '',
        [('train', 'aaaaaaaaaaa', 'air drumming', 'zero bytes'),
         ('train', 'ddddddddddd', 'zumba', 'dead link'),
         ('train', 'iiiiiiiiiii', 'abseiling', 'missing')],
        ('train: 3 of 6 clips found, 0 to 1 a class; 1 dead link; ',),
    ),
)  # fmt: skip


@pytest.mark.parametrize('flow', BROKEN)
def test_faults_of_files_are_counted_and_listed(flow, start, samples):
    """What is left is read, in its order."""
    folder, files, options, rows, said = BROKEN[flow]
    run = start(flow)
    for name, kind in files.items():
        KINDS[kind](Path(folder, name))
    out = run(*options.split())
    for text in said:
        assert text in out
    (listed,) = Path().rglob('unusable.txt')
    found = [line.split('\t') for line in listed.read_text().splitlines()]
    if flow == 'ucf101':
        found = [row for row in found if row[0].endswith('1')]
    assert [tuple(row[:3]) for row in found] == [row[:3] for row in rows]
    for row, (*_, reason) in zip(found, rows):
        assert row[3].startswith(reason)
    if flow not in CHECKED:
        gone = {str(Path(folder, name)) for name in files}
        for split, (_, whole) in zip(samples(flow), FLOWS[flow].reads):
            rest = [row for row in whole if row[0] not in gone]
            assert [row for row in split if row[0] not in gone] == rest
    if '--decode' in options:  # sizes alone do not show broken content
        assert 'unreadable' not in run(*options.split()[1:])


# By flow and file: what stands there (or '' for the end of the file), what
# takes its place, what is said.
FAULTS = {
    ('coco', 'instances_val2017.json'): [
        ('}]}', '', 'is not a whole json file'),
        ('{"images"', '[' * 100_000, 'is not a whole json file'),
        ('"images"', '"x"', 'images is missing or empty'),
        ('}], "annot', '}, "x"], "annot', 'images[2]: id is None'),
        ('{"id": 8', '{"id": 7', 'images[1]: id 7 again'),
        ('{"id": 8', '{"id": true', 'images[1]: id is True'),
        ('008.jpg', '007.jpg', "images[1]: file_name '000000000007.jpg' agai"),
        ('000000000008', '../passwd', "images[1]: '../passwd.jpg' is not a p"),
        ('605.0', '1e999', 'annotations[0]: area is inf'),
        ('605.0', 'NaN', 'NaN is not a number'),
        ('605.0', '"605"', "annotations[0]: area is '605'"),
        ('{"id": 3, "im', '{"id": 1, "im', 'annotations[2]: id 1 again'),
        ('"image_id": 8', '"image_id": 99', '[2]: image_id 99 is unknown'),
        ('y_id": 1', 'y_id": 11', 'annotations[0]: category_id 11 is unknown'),
        ('[4.5, 5, 20, 30.25]', '[1, 2, 3]', '[1, 2, 3] is not x, y, width'),
    ],
    ('cub', 'images.txt'): [
        ('2 001.', '1 001.', 'line 2: id 1 again'),
        ('_0002_2', '_0001_1', '_0001_1.jpg again'),
        ('9 003', '9 ../003', "line 9: '../003.Ani/Ani_0003_3.jpg' is not a"),
        ('Ani_0003', 'Ani 0003', "line 9: '9 003.Ani/Ani 0003_3.jpg' is not"),
        ('9 003', '\n9 003', 'line 9: remove the blank line'),
        ('1 001', '\ufeff1 001', 'line 1: remove the byte order mark'),
    ],
    ('cub', 'image_class_labels.txt'): [
        ('3 1\n', '3 2\n', "image_class_labels.txt, line 3 has class '2'"),
        ('3 1\n', '3 4\n', "image_class_labels.txt, line 3 has class '4'"),
        ('3 1\n', '', 'differ in their ids'),
    ],
    ('cub', 'train_test_split.txt'): [('9 0', '9 2', "line 9 '2'")],
    ('cub', 'classes.txt'): [('2 002', '7 002', 'no class 2: ids must go')],
    ('lists', 'val.list'): [
        ('', '1.x/a.jpg', "line 4: no label at the end: '1.x/a"),
        ('', '1.x/a.jpg -1', 'line 4: no label at the end'),
        ('', '../1.x/a.jpg 0', "line 4: '../1.x/a.jpg' is not a path below"),
        ('', 'images//a/a.jpg 0', "line 4: '/a/a.jpg' is not a path below"),
        ('', 'a.jpg 0', "line 4: 'a.jpg' must be CLASS/NAME without blanks"),
        ('', '1.x/a.jpg 0', "line 4: '1.x' for 0, further up '001.Black"),
        ('', '003.Ani/new.jpg 3', 'without a gap, one for each folder'),
        ('', '005.x/a.jpg 4', 'labels must go from 0 without a gap'),
        ('', f'{CUB_IMAGES[0][0]} 0', f'line 4: {CUB_IMAGES[0][0]} again'),
    ],
    ('kit', TRUTH): [
        ('2\n3', '2\nx', "line 3: 'x' is not a class of"),
        ('2\n3', '4\n3', "line 2: '4' is not a class of"),
        # a line left out would shift all that follow
        ('2\n3', '\n3', 'line 2: remove the blank line'),
    ],
    ('kit', 'meta.mat'): [('MATLAB 5.0', '', 'meta.mat ')],
    ('labels', 'labels.txt'): [
        ('', 'a.JPEG n00000001', "line 6: 'n00000001' is neither one of the"),
        ('', 'a.JPEG 3', "line 6: '3' is neither"),
        ('', 'a.JPEG', "line 6: no label at the end: 'a.JPEG'"),
        ('', '../a.JPEG 1', "line 6: '../a.JPEG' is not a path below"),
        ('', f'{VAL[0][0]} 1', f"line 6: '{WNIDS[1]}' for '{VAL[0][0]}', "),
    ],
    ('csv', 'val_ytid_list.txt'): [('', 'too short', "line 4: 'too shor")],
    ('csv', 'train.csv'): [
        ('', 'zumba,ddd,1,2,train,0', 'line 9: malformed'),
        ('', 'zumba', 'line 9: '),
        ('', f'{ROW}\nzu\0mba,jjjjjjjjjjj,1,11,train,0', 'line 10: '),
        ('', f'"{ROW}\n{ROW}', 'line 9: unexpected end of data; is a quote'),
        ('', f'"{ROW * 5000}', 'line 9: field larger than field limit'),
        *(
            ('', ROW.replace('1,11', times), 'line 9: ')
            for times in ('x,9', 'inf,11', '1,nan', '-3,7', '30,7')
        ),
        ('label,', 'name,', "line 2: 'label'; is a quote left open, or one"),
    ],
    ('csv', 'validate.csv'): [
        ('', 'yoga,ddddddddddd,12,22,val,0',
         "line 6: ('yoga', 12, 22) for 'ddddddddddd', further up"),
    ],
    ('mmaction', MMACTION_LIST): [
        ('', '../aaaaaaaaaaa.mp4 0', "line 8: '../aaaaaaaaaaa.mp4' is not a"),
        ('', 'zumba/\x1b[2J.mp4 0', 'is not a path below the data folder'),
        ('', 'zumba/aaaaaaaaaaa.mp4', 'line 8: no label at the end'),
        ('', 'zumba/aaaaaaaaaaa.mp4 \u0663', 'line 8: no label at the end'),
        ('', 'zumba/ddddddddddd.mp4 7', "line 8: 7 for 'zumba', further up 1"),
        ('', 'golf/ddddddddddd.mp4 1', "'golf' for 1, further up 'zumba'"),
        ('', 'bowling/ddddddddddd_000012_000022.mp4 2',
         "(2, 12, 22) for 'ddddddddddd', further up (1, 12, 22)"),
    ],
    ('ucf101', 'classInd.txt'): [
        ('2 Hand', '4 Hand', "line 2: '4 HandstandPushups' is not"),
        ('3 YoYo', '3 ApplyEyeMakeup', "line 3: 'ApplyEyeMakeup' is not a"),
        ('3 YoYo', '3 ../YoYo', "line 3: '../YoYo' is not a new class"),
    ],
    ('ucf101', 'trainlist02.txt'): [
        ('avi 1', 'avi 3', "line 1: label '3', but ApplyEyeMakeup is num"),
    ],
    ('ucf101', 'testlist03.txt'): [
        ('YoYo/', '../YoYo/', "line 5: '../YoYo/v_YoYo_g05_c01.avi' is not a"),
        ('YoYo/', '/YoYo/', "line 5: '/YoYo/v_YoYo_g05_c01.avi' is not a"),
        ('YoYo/', 'Golf/', "line 5: 'Golf/v_YoYo_g05_c01.avi' is not CLASS"),
    ],
}  # fmt: skip
MISSING = {
    ('coco', 'instances_val2017.json'): 'it is in annotations_trainval2017.zi',
    ('coco', 'val2017'): 'no folder data/coco/val2017: it is in val2017.zip',
    ('cub', 'classes.txt'): 'does not exist: --root takes the unpacked',
    ('cub', 'images'): 'no folder data/CUB_200_2011/images',
    ('kit', 'meta.mat'): 'meta.mat does not exist: --devkit takes the unpacke',
    ('kit', 'val'): '--root: no folder data/imagenet/val',
    ('csv', 'train.csv'): 'train.csv does not exist',
    ('csv', 'train_ytid_list.txt'): 'does not exist: --ids takes',
    ('csv', 'kinetics400'): '--videos: no folder',
    ('mmaction', MMACTION_LIST): 'list_videos.txt does not exist',
    ('ucf101', 'testlist03.txt'): 'testlist03.txt does not exist: --splits',
    ('ucf101', 'videos'): '--videos: no folder data/ucf101/videos',
}
CASES = [
    *((*place, *fault) for place in FAULTS for fault in FAULTS[place]),
    *((*place, '', None, said) for place, said in MISSING.items()),
]


def damage(path, old, new):
    if new is None:
        path.rename('elsewhere')
        return
    content = path.read_bytes()
    assert old.encode() in content
    if old:
        content = content.replace(old.encode(), new.encode(), 1)
    else:
        content += new.encode() + b'\n'
    path.write_bytes(content)


@pytest.mark.parametrize('flow, name, old, new, said', CASES)
def test_faults_of_lists_end_it_and_nothing_is_written(
    flow, name, old, new, said, start
):
    """The error names the file and the line."""
    run = start(flow)
    (path,) = Path().rglob(name)
    damage(path, old, new)
    before = contents()
    more = ('--out', 'report') * (flow in CHECKED)
    with pytest.raises(SetupError, match=re.escape(said)):
        run(*more)
    assert contents() == before


@pytest.mark.parametrize('flow, pattern, said', [
    ('kit', 'data/imagenet/val/*', 'val: none of the images below'),
    ('csv', 'kinetics400/*/*/*', 'train: none of the clips below kinetics400'),
    ('ucf101', 'data/ucf101/videos/*/*', 'train 1: none of the clips below'),
])  # fmt: skip
def test_lists_of_nothing_are_not_written(flow, pattern, said, start):
    run = start(flow)
    for path in Path().glob(pattern):
        path.unlink()
    before = contents()
    with pytest.raises(SetupError, match=said):
        run()
    assert contents() == before


@pytest.mark.parametrize('flow', ['folders', 'csv', 'ucf101'])
def test_output_that_cannot_be_written_leaves_the_old_one(
    flow, start, unwritable, samples
):
    run = start(flow)
    run()
    before = samples(flow)
    for path, _ in before[0][:1]:
        Path(path).write_bytes(b'')
    unwritable(run)
    assert samples(flow) == before
    run()
    assert samples(flow)[0] == before[0][1:]
