"""Hold modules that take the place of missing ones, under their names.

They are never imported as ``cgnl_mm.compat.stand_ins...``: a finder loads
``mmcv_ext.py`` as ``mmcv._ext`` (:mod:`cgnl_mm.compat.mmcv_ops`) and
``drn/`` as ``mmaction.models.localizers.drn``
(:mod:`cgnl_mm.compat.mmaction_drn`).
"""
