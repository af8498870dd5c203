#!/bin/bash
# Healthy when PgBouncer answers the first message of the PostgreSQL protocol, an SSLRequest
# (length 8, code 80877103), with N: no TLS here, or S: TLS (dockerfiles/compose.tls.yml). Whether PostgreSQL is there is not asked: a
# pooler that can say "the server is away" is doing its work.
exec 3<>/dev/tcp/127.0.0.1/6432 || exit 1
printf '\0\0\0\10\4\322\26\57' >&3
read -r -N 1 -t 3 answer <&3 && [[ $answer = [NS] ]]
