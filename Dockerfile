# bmdkit in a container, for processors or for a GPU: docs/how-to/container.md
#   docker build -t bmdkit .
#   docker build -t bmdkit:gpu --build-arg DEVICE=gpu .
FROM debian:12-slim AS build
ARG DEVICE=cpu
ARG TORCH_INDEX=""
ARG EXTRAS="dask,figures,codecs"
COPY container/install.sh /install.sh
RUN /install.sh system "$DEVICE"
COPY setup.cfg setup.py pyproject.toml README.md LICENSE constraints.txt /source/
COPY pipelines /source/pipelines
COPY bmdkit /source/bmdkit
RUN /install.sh package "$DEVICE" /source "$TORCH_INDEX" "$EXTRAS"

FROM debian:12-slim
ARG DEVICE=cpu
LABEL org.opencontainers.image.title="bmdkit" \
      org.opencontainers.image.description="Bone mineral density from plain hip radiographs. For research. Not for diagnosis." \
      org.opencontainers.image.licenses="Apache-2.0"
COPY container/install.sh /install.sh
RUN /install.sh system "$DEVICE" && useradd --create-home --uid 1000 bmdkit
COPY --from=build /opt/bmdkit /opt/bmdkit
# caches in /tmp: any user may run it, and its root may be read-only with a /tmp in memory
ENV PATH=/opt/bmdkit/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONNOUSERSITE=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    NUMBA_CACHE_DIR=/tmp/numba \
    TRITON_CACHE_DIR=/tmp/triton \
    TORCHINDUCTOR_CACHE_DIR=/tmp/inductor \
    OMP_WAIT_POLICY=PASSIVE \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER bmdkit
WORKDIR /data
ENTRYPOINT ["bmdkit"]
CMD ["--help"]
