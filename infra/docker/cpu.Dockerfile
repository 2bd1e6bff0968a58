# Equimodels for machines without a GPU:
#   docker build -f infra/docker/cpu.Dockerfile --build-arg TORCH_INDEX=URL -t equimodels:0.1.0-cpu .
#
# TORCH_INDEX: the package index that has torch's CPU builds, as torch's own installation page names it.
#
# The base is pinned by version. Its digest cannot be looked up where this file was written; put it behind the tag
# (FROM python:3.11.13-slim-bookworm@sha256:...) where images are built.
FROM python:3.11.13-slim-bookworm AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc g++ libc6-dev \
 && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/equimodels
ENV PATH=/opt/equimodels/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
# The dependencies before the sources: a change of the sources does not install them again.
ARG TORCH_INDEX
RUN test -n "$TORCH_INDEX" && python -m pip install --no-deps torch==2.13.0 --index-url "$TORCH_INDEX"
COPY requirements-build.lock requirements.lock ./
RUN python -m pip install --no-deps --require-hashes -r requirements-build.lock \
 && python -m pip install --no-deps --require-hashes --no-build-isolation -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY equimodels equimodels
COPY cluster cluster
COPY jobs jobs
COPY serve serve
RUN python -m pip install --no-deps --no-build-isolation . && python -m pip check

FROM python:3.11.13-slim-bookworm
# libgomp: torch and tblite. wget: the probes that KubeRay gives to its pods.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1 wget \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 1000 --user-group --create-home equi
COPY --from=build /opt/equimodels /opt/equimodels
ENV PATH=/opt/equimodels/bin:$PATH PYTHONUNBUFFERED=1 RAY_AUTH_MODE=token
USER 1000:1000
WORKDIR /home/equi
CMD ["equi", "--help"]
