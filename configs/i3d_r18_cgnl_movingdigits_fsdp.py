# python tools/train.py configs/i3d_r18_cgnl_movingdigits_fsdp.py
# Sharded: bash tools/dist_train.sh configs/i3d_r18_cgnl_movingdigits_fsdp.py 2
_base_ = './i3d_r18_cgnl_movingdigits.py'
runner_type = 'FlexibleRunner'
strategy = dict(
    type='FSDPStrategy',
    state_dict_cfg='full',  # whole checkpoints, as without FSDP
    model_wrapper=dict(
        auto_wrap_policy=dict(
            type='cgnl_mm.training.fsdp.wrap_classes',
            classes=['BasicBlock3d', 'CGNL3d'])))
