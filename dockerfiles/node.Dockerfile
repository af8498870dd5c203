# One image for the seven services; docker-compose.yml says which entrypoint each of them runs.
# Build it from the repository's root.

FROM node:24-trixie-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
# No install scripts: what we need ships as prebuilt files, so nothing from a package runs at build time.
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund

FROM node:24-trixie-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN npm run build

FROM node:24-trixie-slim
# Native Schnorr verification; without it the services fall back to WebAssembly, seven times slower.
RUN apt-get update \
 && apt-get install -y --no-install-recommends libsecp256k1-2 \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /app
# The mount point of datasets: a volume gets its owner from it.
RUN mkdir /datasets && chown node:node /datasets
# Names are resolved in threads of libuv, four by default: as many names that hang would hold up every
# other look-up, that of the database included.
ENV NODE_ENV=production NODE_OPTIONS=--enable-source-maps UV_THREADPOOL_SIZE=32
COPY --from=dependencies /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY package.json ./
COPY dockerfiles/node/healthcheck.js ./healthcheck.js
USER node
# node itself, not npm, so that SIGTERM reaches the service.
CMD ["node", "dist/monitor.js"]
