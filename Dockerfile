# syntax=docker/dockerfile:1
# The image of the server and the agent, for amd64 and arm64. Both bases are named by digest, which a build must say:
#
#   docker buildx build --platform linux/amd64,linux/arm64 --sbom=true --provenance=mode=max \
#     --build-arg NODE_DIGEST=sha256:… --build-arg RUNTIME_DIGEST=sha256:… \
#     --build-arg VERSION=… --build-arg REVISION="$(git rev-parse HEAD)" --tag … --push .
#
# docs/development/image.md says how to find the digests. Without a builder: node scripts/image.mjs --out signet.tar
ARG NODE_DIGEST
ARG RUNTIME_DIGEST

# Node for the machine that the image is for; nothing is run in it.
FROM node:24-bookworm-slim@${NODE_DIGEST} AS node

# Compiles on the machine that builds: JavaScript is the same everywhere, and the one native package comes compiled.
FROM --platform=$BUILDPLATFORM node:24-bookworm-slim@${NODE_DIGEST} AS build
ARG TARGETARCH
WORKDIR /source
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY LICENSE tsconfig.json tsconfig.build.json ./
COPY bin ./bin
COPY scripts ./scripts
COPY src ./src
RUN node scripts/build.mjs
RUN npm ci --ignore-scripts --no-audit --no-fund --omit=dev --os=linux --libc=glibc \
      --cpu="$(node scripts/image/cpu.mjs "$TARGETARCH")" \
    && node scripts/image.mjs --tree /image --architecture "$TARGETARCH"

# glibc, libstdc++, CA certificates and the user nonroot; no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot@${RUNTIME_DIGEST}
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="signet" \
      org.opencontainers.image.description="Kubernetes-native zero-trust: SPIFFE identities and one access-policy language" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=node /usr/local/bin/node /usr/bin/node
COPY --from=build /image/opt/signet /opt/signet
USER 65532:65532
WORKDIR /
ENTRYPOINT ["/usr/bin/node", "/opt/signet/bin/signet"]
