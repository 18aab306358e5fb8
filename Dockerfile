# One image for every process kind: `docker run plaza query-api`.
FROM python:3.13-slim AS build
WORKDIR /plaza
RUN python -m venv /opt/plaza
COPY requirements.txt requirements-build.txt ./
RUN /opt/plaza/bin/pip install --no-cache-dir --require-hashes -r requirements-build.txt -r requirements.txt
COPY pyproject.toml requirements.in LICENSE README.md ./
COPY domain domain
COPY projections projections
COPY processes processes
COPY command_api command_api
COPY query_api query_api
COPY infra infra
RUN /opt/plaza/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13-slim
COPY --from=build /opt/plaza /opt/plaza
RUN useradd --system --home-dir /var/lib/plaza --create-home plaza
USER plaza
WORKDIR /var/lib/plaza
ENV PATH=/opt/plaza/bin:$PATH PYTHONUNBUFFERED=1 MALLOC_ARENA_MAX=2
EXPOSE 8001 8002 9100
ENTRYPOINT ["plaza"]
CMD ["--help"]
