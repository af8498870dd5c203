# Tor from Debian's packages, as a SOCKS5 proxy. Build it from the repository's root.
FROM debian:trixie-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends tor \
 && rm -rf /var/lib/apt/lists/*
COPY --chmod=0644 dockerfiles/torproxy/torrc /etc/tor/torrc
COPY --chmod=0755 dockerfiles/torproxy/healthcheck.sh /opt/bigbrotr/healthcheck.sh
USER debian-tor
CMD ["tor", "-f", "/etc/tor/torrc"]
