# Gateway, task services, camera agents and viewer in one image: a container's command says which it is, such as
# `python -m services.gateway`. `make images` builds it; docs/deployment.md tells what is in it and why.

# Debian with Python 3.11, pinned by digest in .env.
ARG PYTHON_IMAGE

# The packages of deploy/locks, each file checked against its hash, in an environment without pip. The secrets are
# optional, for builds behind a proxy.
FROM ${PYTHON_IMAGE} AS packages
RUN apt-get update -qq && apt-get install -qq --yes --no-install-recommends binutils > /dev/null
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python3.11 -m venv /opt/pip && python3.11 -m venv --without-pip /opt/perception
WORKDIR /source
COPY . .
# An extra of pyproject.toml; without `onnxruntime` models run in Triton alone, and the image is 69 MB smaller.
ARG EXTRAS=onnxruntime
RUN --mount=type=secret,id=certificates,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=cache,target=/root/.cache/pip \
    install="install --quiet --no-deps --only-binary=:all: --no-compile" locks=deploy/locks \
    && /opt/pip/bin/pip $install --require-hashes --requirement $locks/build.txt \
    && /opt/pip/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels ./clients/python . \
    && pip="/opt/pip/bin/pip --python /opt/perception/bin/python $install" \
    && $pip --require-hashes --requirement $locks/services${EXTRAS:+-${EXTRAS}}.txt \
    && $pip /wheels/*.whl
# What only developers and debuggers of these packages need. Libraries in *.libs are stripped already.
# Bytecode is compiled here, because nothing can be written where it runs; its sources' times do not matter.
RUN cd /opt/perception/lib/python3.11/site-packages \
    && find . -type d -name tests -prune -exec rm -r {} + \
    && find . -type f \( -name '*.pyi' -o -name '*.pxd' -o -name '*.h' \) -delete \
    && find . -type f -name '*.so*' -not -path '*.libs/*' -exec strip --strip-unneeded {} + \
    && python3.11 -m compileall -q --invalidation-mode unchecked-hash .

# The base without what installs, administers and changes users: no pip, no apt, nothing that is setuid.
FROM ${PYTHON_IMAGE} AS system
RUN cd "$(python3.11 -c 'import os; print(os.path.dirname(os.__file__))')" \
    && rm -rf ensurepip idlelib lib2to3 pydoc_data test tkinter turtledemo site-packages/* config-3.11-* \
    && find . -type d -name __pycache__ -prune -exec rm -r {} + \
    && python3.11 -m compileall -q --invalidation-mode unchecked-hash . \
    && rm -rf /usr/local/bin/2to3* /usr/local/bin/idle* /usr/local/bin/pip* /usr/local/bin/pydoc* /usr/local/include \
    && remove="dpkg --remove --force-depends --force-remove-essential --force-remove-protected" \
    && $remove adduser apt debian-archive-keyring e2fsprogs gpgv libapt-pkg6.0 libpam-modules libpam-modules-bin \
        libpam-runtime login logsave mount passwd util-linux util-linux-extra > /dev/null 2>&1 \
    && $remove perl-base > /dev/null 2>&1 \
    && rm -rf /var/cache/* /var/lib/apt /var/log/* /usr/share/info /root /tmp/* \
    && ! find / -xdev -type f -perm /6000 | grep .

FROM scratch
COPY --from=system / /
COPY --from=packages /opt/perception /opt/perception
# No module is taken from the working directory; /tmp is the one place that is written to.
ENV PATH=/opt/perception/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
USER 1000:1000
# gRPC, metrics; the viewer's page
EXPOSE 50050 9090 8080
CMD ["python", "-m", "services.gateway"]
ARG PYTHON_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="perception-services" \
      org.opencontainers.image.description="Camera frames in, panoptic scenes out: gateway, task services, camera agents, viewer" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
