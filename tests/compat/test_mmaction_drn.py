import pytest

from cgnl_mm import compat

compat.apply()


def test_drn_says_where_it_is(needs):
    needs('mmaction_drn')
    import mmaction.models  # noqa: F401
    from mmaction.registry import MODELS

    with pytest.raises(NotImplementedError, match='mmaction2/issues/2714'):
        MODELS.build(dict(type='DRN', vocab_size=10))
    # the others of the folder are the real ones
    assert MODELS.get('BMN').__module__ == 'mmaction.models.localizers.bmn'
