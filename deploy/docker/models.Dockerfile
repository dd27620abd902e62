# Two images of models. `make images` builds them; docs/deployment.md tells more.
#   repository   what Triton serves, and a `cp` that brings it where the chart wants it: `perception-models`
#   job          what trains, evaluates and exports models, with PyTorch: `perception-model-job`

# Debian with Python 3.11, and a `cp` of 2 MB; pinned by digest in .env.
ARG PYTHON_IMAGE
ARG BUSYBOX_IMAGE

FROM ${PYTHON_IMAGE} AS packages
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python3.11 -m venv /opt/pip && python3.11 -m venv --without-pip /opt/perception
WORKDIR /source
COPY . .
ENV PATH=/opt/perception/bin:/usr/local/bin:/usr/bin:/bin
RUN --mount=type=secret,id=certificates,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=cache,target=/root/.cache/pip \
    install="install --quiet --no-deps --only-binary=:all:" locks=deploy/locks \
    && /opt/pip/bin/pip $install --require-hashes --requirement $locks/build.txt \
    && /opt/pip/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels ./clients/python . \
    && pip="/opt/pip/bin/pip --python /opt/perception/bin/python $install" \
    && $pip --require-hashes --requirement $locks/local.txt \
    && $pip /wheels/*.whl

# Weights that the project does not bring: --build-context weights=FOLDER takes the place of this stage.
FROM scratch AS weights

FROM packages AS built
ARG PROFILE=demo
ENV WEIGHTS_DIR=/weights
RUN --mount=type=bind,from=weights,target=/weights perception models build ${PROFILE} --output /models

FROM ${BUSYBOX_IMAGE} AS repository
ARG PROFILE=demo
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="perception-models" \
      org.opencontainers.image.description="The model repository of the profile ${PROFILE}, in /models" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=built /models /models
# Where compose.yaml mounts the volume that they are copied into, which takes its owner from here.
RUN mkdir /model-repository && chown 1000:1000 /model-repository
USER 1000:1000
CMD ["ls", "-l", "/models"]

FROM packages AS trainer
# PyPI's PyTorch brings CUDA, gigabytes of it; with the address of PyTorch's index of CPU wheels it does not. Its files
# are others than those of the lock: then versions are the lock's, and hashes are not compared.
ARG PIP_EXTRA_INDEX_URL=
RUN --mount=type=secret,id=certificates,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=cache,target=/root/.cache/pip \
    lock=deploy/locks/job.txt pip="/opt/pip/bin/pip --python /opt/perception/bin/python install --quiet" \
    && if [ -n "${PIP_EXTRA_INDEX_URL}" ]; then \
        sed 's/ *\\$//; /--hash=/d' $lock > /versions \
        && $pip --constraint /versions "$(echo /wheels/perception_services-*.whl)[models]"; \
    else $pip --no-deps --only-binary=:all: --require-hashes --requirement $lock; fi

FROM ${PYTHON_IMAGE} AS job
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="perception-model-job" \
      org.opencontainers.image.description="Trains, evaluates and exports models of Perception" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=trainer /opt/perception /opt/perception
ENV PATH=/opt/perception/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
# What it makes goes into runs/ here: mount a volume that user 1000 may write to.
WORKDIR /work
USER 1000:1000
CMD ["perception", "models", "--help"]
