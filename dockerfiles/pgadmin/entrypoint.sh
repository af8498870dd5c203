#!/bin/sh
# Refuses a placeholder for the password, which pgAdmin would keep, and hands over to the image.
case "${PGADMIN_DEFAULT_PASSWORD:-}" in
  *CHANGE_ME*)
    echo "error: PGADMIN_DEFAULT_PASSWORD still holds the placeholder CHANGE_ME. Put a password of your own into .env, for example from: openssl rand -hex 24" >&2
    exit 1
    ;;
esac
exec /entrypoint.sh "$@"
