# Trains and draws as a user who is not root. Only /data and /tmp are written to: the root may be read-only.
FROM python:3.11-slim-trixie
WORKDIR /opt/dcgan_jax
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY dcgan_jax dcgan_jax
RUN python -m pip install --no-cache-dir -c constraints.txt '.[export]'
ENV DCGAN_JAX_CACHE=/data/cache HOME=/tmp MPLCONFIGDIR=/tmp
USER 65532:65532
WORKDIR /data
ENTRYPOINT ["python", "-m", "dcgan_jax"]
