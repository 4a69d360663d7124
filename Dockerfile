# Two images from one file: `service` (the default) and `sandbox` (a pretend payment service).
# Neither carries a compiler, a database server, or anything of the development extra.
# tests/unit/deploy/test_dockerfile.py does its steps in a folder, as far as they need no engine.
ARG PYTHON=3.13-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/tollgate
COPY config/requirements/runtime.lock config/requirements/dev.lock /tmp/
# setuptools only builds the wheel below; it is pinned by the development lock.
RUN /opt/tollgate/bin/pip install --require-hashes --no-deps -r /tmp/runtime.lock \
    && python -m venv /opt/build \
    && sed -n '/^setuptools==/,/[^\\]$/p' /tmp/dev.lock > /tmp/build.lock \
    && /opt/build/bin/pip install --require-hashes --no-deps -r /tmp/build.lock
WORKDIR /src
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY service service
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /tmp/wheel . \
    && /opt/tollgate/bin/pip install --no-deps /tmp/wheel/*.whl

FROM python:${PYTHON} AS base
RUN groupadd --system --gid 10001 tollgate \
    && useradd --system --uid 10001 --gid 10001 --home-dir /app --shell /usr/sbin/nologin tollgate
COPY --from=build /opt/tollgate /opt/tollgate
ENV PATH=/opt/tollgate/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
COPY config config
USER 10001:10001

FROM base AS sandbox
COPY scripts scripts
EXPOSE 8300
ENTRYPOINT ["python", "-m", "scripts.sandbox"]

FROM base AS service
ENV TOLLGATE_SERVER__HOST=0.0.0.0 TOLLGATE_SERVER__INTERNAL_HOST=0.0.0.0
EXPOSE 8000 8090
# No curl in the image: Python asks.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["python", "-c", \
    "import urllib.request as r; r.urlopen('http://127.0.0.1:8090/livez', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["tollgate"]
CMD ["serve"]
