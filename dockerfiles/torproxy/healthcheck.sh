#!/bin/bash
# Healthy when the SOCKS5 greeting (version 5, one method: none) is answered by "version 5, none".
# Whether Tor has reached its network is not asked: clearnet relays do not need it, and the
# services say on /health how Tor is.
exec 3<>/dev/tcp/127.0.0.1/9050 || exit 1
printf '\5\1\0' >&3
[ "$(timeout 3 head -c 2 <&3 | od -An -tx1 | tr -d ' ')" = 0500 ]
