#!/bin/sh
# Writes Alertmanager's configuration for ALERT_RECEIVER, and starts it:
#   https://example.com/hook                                          a webhook
#   smtp://user:password@mail.example.com:587/me@example.com          an e-mail (smtp: STARTTLS, smtps: TLS, mostly 465)
#   (empty)                                                           nobody
# Its user writes to memory only, so the password is in no file of the image or of a volume.
set -eu

config=${ALERTMANAGER_CONFIG:-/tmp/alertmanager.yml}

quoted() {
  printf "'%s'" "$(printf '%s' "$1" | sed "s/'/''/g")"
}

# Undoes %40 and the like, which user and password of a URL may need.
decoded() {
  printf '%s' "$1" | awk '
    BEGIN { digits = "0123456789abcdef" }
    {
      rest = $0
      while (match(rest, /%[0-9A-Fa-f][0-9A-Fa-f]/)) {
        hex = tolower(substr(rest, RSTART + 1, 2))
        code = (index(digits, substr(hex, 1, 1)) - 1) * 16 + index(digits, substr(hex, 2, 1)) - 1
        printf "%s%c", substr(rest, 1, RSTART - 1), code
        rest = substr(rest, RSTART + 3)
      }
      printf "%s", rest
    }'
}

webhook() {
  printf '    webhook_configs:\n      - url: %s\n' "$(quoted "$1")"
}

email() {
  rest=${1#*://}
  to=${rest#*/}
  server=${rest%%/*}
  case $server in
    *@*) login=${server%@*} ;;
    *) login= ;;
  esac
  user=$(decoded "${login%%:*}")
  password=$(decoded "${login#*:}")
  printf '    email_configs:\n      - to: %s\n        from: %s\n' "$(quoted "$to")" "$(quoted "$to")"
  printf '        smarthost: %s\n' "$(quoted "${server##*@}")"
  case $1 in
    smtps:*) printf '        require_tls: false\n' ;; # the connection is TLS from its beginning
    *) printf '        require_tls: true\n' ;;
  esac
  [ -z "$login" ] ||
    printf '        auth_username: %s\n        auth_password: %s\n' "$(quoted "$user")" "$(quoted "$password")"
  printf '        send_resolved: true\n'
}

receiver=${ALERT_RECEIVER:-}
{
  cat <<'END'
route:
  receiver: operator
  group_by: [alertname]
  group_wait: 30s
  group_interval: 5m
  repeat_interval: 12h
  routes:
    - { matchers: ['severity="critical"'], repeat_interval: 2h }
inhibit_rules:
  # What follows from a database that is away.
  - source_matchers: ['alertname="DatabaseDown"']
    target_matchers: ['alertname=~"StoringFails|ServiceNotReady|ArchiveMetricsStale|NoEventStored"']
  # What follows from a network that is away.
  - source_matchers: ['alertname="OwnNetworkDown"']
    target_matchers: ['alertname=~"NoEventStored|TorWithoutCircuit"']
receivers:
  - name: operator
END
  case $receiver in
    http://* | https://*) webhook "$receiver" ;;
    smtp://* | smtps://*) email "$receiver" ;;
    '') ;;
    *)
      echo 'ALERT_RECEIVER is neither a URL of a webhook (https://…) nor of an e-mail (smtp://user:password@host:587/to@example.com).' >&2
      exit 1
      ;;
  esac
} >"$config"

[ -n "$receiver" ] ||
  echo 'ALERT_RECEIVER is not set: alerts are shown on the pages of Prometheus, Alertmanager and Grafana, and sent to nobody.' >&2

exec "${ALERTMANAGER:-/bin/alertmanager}" --config.file="$config" "$@"
