# An image with the package: `docker build -t convnext_mm .`. Its last two steps are the set-up commands of
# docs/install.md. It was not built where it was written, because there was no Docker.
# For mmcv's operators on a GPU, give an image that has Python and the CUDA compiler: --build-arg BASE=IMAGE.
ARG BASE=python:3.11-bookworm
FROM ${BASE}
# OpenCV's libraries; the image has a C++ compiler.
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 && rm -rf /var/lib/apt/lists/*
WORKDIR /convnext_mm
COPY . .
RUN pip install torch torchvision "setuptools<81" wheel ninja psutil
RUN pip install --no-build-isolation -e ".[onedl]"
