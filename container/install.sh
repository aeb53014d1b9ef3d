#!/bin/sh
# What the Dockerfile and the Apptainer definition run, as root on Debian 12:
#   install.sh system DEVICE               Python; with a GPU also the compiler that Triton calls for its launcher
#   install.sh package DEVICE SOURCE INDEX EXTRAS
#                                          bmdkit of the folder SOURCE, pinned by its constraints, in /opt/bmdkit
# DEVICE is cpu or gpu. INDEX is a package index with builds of PyTorch for that device; empty where the usual one has them.
set -eu

part=$1
device=$2
case $device in
    cpu | gpu) ;;
    *) echo "DEVICE: expected cpu or gpu, got $device" >&2; exit 2 ;;
esac

case $part in
    system)
        compiler=""
        if [ "$device" = gpu ]; then compiler="gcc libc6-dev python3-dev"; fi
        apt-get update
        # shellcheck disable=SC2086 # several words
        apt-get install --yes --no-install-recommends python3 python3-venv ca-certificates $compiler
        rm -rf /var/lib/apt/lists/*
        ;;
    package)
        source=$3
        index=${4:-}
        extras=${5:-}
        python3 -m venv /opt/bmdkit
        pip() { /opt/bmdkit/bin/python -m pip "$@"; }
        # torch first and pinned: any range may bring another build
        pip install --no-cache-dir -c "$source/constraints.txt" ${index:+--extra-index-url "$index"} torch
        pip install --no-cache-dir -c "$source/constraints.txt" "$source${extras:+[$extras]}"
        /opt/bmdkit/bin/python - "$device" <<'PYTHON'
import sys

import torch

cuda = torch.version.cuda
if (sys.argv[1] == "gpu") != (cuda is not None):
    found = f"for CUDA {cuda}" if cuda else "for processors alone"
    sys.exit(f"PyTorch {torch.__version__} is built {found}: give an INDEX with builds for DEVICE={sys.argv[1]}")
PYTHON
        ;;
    *) echo "expected system or package, got $part" >&2; exit 2 ;;
esac
