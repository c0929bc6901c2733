# The tested versions, in a checkout: configs, tools and tests are there.
#   docker build -t cgnl_mm .                           CPU
#   docker build -t cgnl_mm --build-arg DEVICE=cu130 .  CUDA 13.0
#   docker run -it cgnl_mm python tools/train.py configs/r18_cgnl_digits.py
# With CUDA, `docker run --gpus all --shm-size 8g`: loaders share memory.
#
# Written without a Docker daemon and without access to download.pytorch.org:
# hadolint finds nothing, but neither image has been built.
FROM python:3.11-slim-bookworm

ARG DEVICE=cpu

# what opencv-python needs; Debian keeps only the newest build of a package
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends git libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /cgnl_mm
COPY . .
# pip takes 2.14.1+cpu before 2.14.1
RUN pip install --no-cache-dir -c requirements/constraints.txt \
    --extra-index-url "https://download.pytorch.org/whl/${DEVICE}" \
    -e '.[all,lite]'
