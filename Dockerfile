# CPU:   docker build -t dirl .
# CUDA:  docker build -t dirl:cuda --build-arg TORCH=cu126 .
# Run:   docker run --rm -v "$PWD:/work" dirl audit timm:vit_small_patch16_224 --store store --out audit
#        With CUDA, add --gpus all. A viewer needs -p 8000:8000 and `dirl view --host 0.0.0.0`.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
# Where torch comes from: cpu, or a version of CUDA such as cu126, as on pytorch.org.
ARG TORCH=cpu
# Not pinned: the bounds of pyproject.toml apply, and each index has its own versions.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/${TORCH}
# The wheel is mounted, so that no layer holds it twice.
RUN --mount=from=wheel,source=/wheels,target=/wheels pip install --no-cache-dir /wheels/*.whl
RUN useradd --create-home --uid 1000 dirl && mkdir /work && chown dirl /work
USER 1000
WORKDIR /work
ENTRYPOINT ["dirl"]
CMD ["--help"]
