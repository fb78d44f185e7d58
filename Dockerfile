# The gateway in a container: Python, the pinned dependencies and this package, and no more: no
# shell, no package manager, no compiler. docs/how-to/deploy-container.md has how to run it, why
# these bases, and how to renew their digests. `.ci/image` builds and checks it.
#
# By digest, so that a tag that is moved changes nothing here. Both are Python 3.13 on Debian 13:
# what the first installs has to fit the second.
ARG BUILD_IMAGE=python:3.13-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285
ARG RUNTIME_IMAGE=gcr.io/distroless/python3-debian13:nonroot@sha256:83aa8d4f74a4d7f7cf2d472054139bef71a927b76c680c0f2e1021d6b1d6d732

# checkov:skip=CKV_DOCKER_7:the ARG above pins it, by digest
FROM ${BUILD_IMAGE} AS build
COPY .ci/image-requirements.txt /build/requirements.txt
# Wheels alone: a source distribution would run its own code here.
RUN python3 -m pip install --no-cache-dir --quiet --disable-pip-version-check --root-user-action ignore \
      --require-hashes --no-deps --only-binary :all: --no-compile \
      --target /app --requirement /build/requirements.txt \
 && rm -rf /app/bin
COPY LICENSE /app/
COPY radgateway /app/radgateway
# The bytecode is never held against its source again: neither can change.
RUN python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /app \
 && chmod -R u=rwX,go=rX /app \
 && mkdir /data

FROM ${RUNTIME_IMAGE}
ARG RUNTIME_IMAGE
ARG VERSION=unknown
ARG REVISION=unknown
# On log lines, in metrics and on spans: letters, digits and dots.
ARG RUNNING_REVISION=unknown
LABEL org.opencontainers.image.title="radgateway" \
      org.opencontainers.image.description="A gateway for AI model APIs" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${RUNTIME_IMAGE}"
COPY --from=build --chown=0:0 /app /app
COPY --from=build --chown=65532:65532 /data /data
# PYTHONSAFEPATH: the working directory can be written to, so nothing is imported from it.
ENV PYTHONPATH=/app \
    PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RADGATEWAY_TELEMETRY__REVISION=${RUNNING_REVISION} \
    RADGATEWAY_SERVER__HOST=0.0.0.0
USER 65532:65532
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
  CMD ["/usr/bin/python3", "-m", "radgateway", "health"]
ENTRYPOINT ["/usr/bin/python3", "-m", "radgateway"]
CMD ["serve"]
