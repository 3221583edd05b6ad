# syntax=docker/dockerfile:1
# Two stages: the first installs the locked wheels, the second carries the result and no more.
# It runs as an unprivileged user on a read-only root; only SPILLWAY_DATA_DIR and /tmp are written to:
#   docker build -t spillway .
#   docker buildx build --platform linux/amd64,linux/arm64 -t registry.example.com/spillway:0.1.0 --push .
#   docker run --read-only --tmpfs /tmp -v spillway:/var/lib/spillway -v "$PWD/policies:/etc/spillway:ro" -p 8080:8080 spillway
ARG PYTHON=3.13-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# The dependencies first: they change less often than the code, so this layer is kept.
COPY requirements.lock requirements-build.lock ./
RUN python -m venv --without-pip /opt/spillway \
 && pip --python /opt/spillway install --require-hashes --only-binary :all: -r requirements.lock \
 && pip install --require-hashes --only-binary :all: -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY proxy proxy
# A `.pth` file runs at every start of Python: it is how a poisoned release stays. None of the locked packages has one.
RUN python -m hatchling build -t wheel -d /dist \
 && pip --python /opt/spillway install --no-deps --no-index /dist/*.whl \
 && test -z "$(find /opt/spillway -name '*.pth')"

FROM python:${PYTHON}
# Shared providers are reached over TLS, and trust is the system's: a company adds its own authority in one place.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin spillway \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/spillway
COPY --from=build /opt/spillway /opt/spillway
ENV PATH=/opt/spillway/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SPILLWAY_HOST=0.0.0.0 \
    SPILLWAY_POLICY=/etc/spillway \
    SPILLWAY_DATA_DIR=/var/lib/spillway
USER 10001:10001
WORKDIR /var/lib/spillway
VOLUME /var/lib/spillway
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ.get(\"SPILLWAY_PORT\", 8080)}/healthz', timeout=2)"]
ENTRYPOINT ["spillway", "serve"]
