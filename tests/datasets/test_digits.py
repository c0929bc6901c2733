from cgnl_mm.datasets.digits import enlarge
from cgnl_mm.datasets.generate import load_split

READ = [dict(type='LoadImageFromFile')]


def test_files_hold_the_digits_by_their_label(tmp_path, build):
    for split in ('train', 'test'):
        dataset = build(
            'mmpretrain', 'Digits', tmp_path / 'd', split=split, pipeline=READ
        )
        images, labels = load_split(split)
        expected = {
            (int(label), enlarge(image, 32).tobytes())
            for image, label in zip(images, labels)
        }
        found = {
            (int(sample['gt_label']), sample['img'][..., 0].tobytes())
            for sample in dataset
        }
        assert len(dataset) == len(images)
        assert found == expected
