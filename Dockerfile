# The last stage holds Node, the libraries it links and the built program: no shell, no packages, no root.
FROM node:26-trixie-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc tsconfig.json rolldown.config.ts ./
# Without scripts: the only package that has one brings a Node, and the image has its own.
RUN npm ci --ignore-scripts
COPY src ./src
RUN npm run build
RUN mkdir -p /root-of-image/app \
  && cp --parents /usr/local/bin/node $(ldd /usr/local/bin/node | grep -o '/[^ ]*') /root-of-image \
  && cp -r package.json dist /root-of-image/app

FROM scratch
ARG REVISION=""
ENV NODE_ENV=production POSTERN_REVISION=${REVISION} PATH=/usr/local/bin
COPY --from=build /root-of-image /
WORKDIR /app
USER 65532:65532
EXPOSE 8080 9464
# The default of listen.health: whoever changes that sets this, too (README).
HEALTHCHECK --interval=10s --timeout=3s CMD ["node", "dist/main.js", "health"]
# No debugger on SIGUSR1: it would be open to every container of the pod.
# Room for young objects that neither grows nor shrinks: what is in it is looked through at once (README, Decisions).
ENTRYPOINT ["node", "--disable-proto=delete", "--no-addons", "--disable-sigusr1", "--min-semi-space-size=4", "--max-semi-space-size=4", "dist/main.js"]
CMD ["serve", "--config", "/etc/postern/gateway.yaml"]
