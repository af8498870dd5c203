# Sourced by the entrypoints of the PostgreSQL and PgBouncer containers.

fail() {
  echo "error: $*" >&2
  exit 1
}

# load_secret NAME: exports NAME, taken from the file that NAME_FILE names where that is set.
# An empty value is left empty; a placeholder is refused.
load_secret() {
  local name=$1 file=$1_FILE
  if [ -n "${!file:-}" ]; then
    [ -r "${!file}" ] || fail "$file names ${!file}, which cannot be read in the container."
    printf -v "$name" '%s' "$(<"${!file}")"
  fi
  case ${!name:-} in
    *CHANGE_ME*) fail "$name still holds the placeholder CHANGE_ME. Put a password of your own into .env, for example from: openssl rand -hex 24" ;;
  esac
  export "$name=${!name:-}"
}

# require_secret NAME: load_secret, and an empty value is refused too.
require_secret() {
  load_secret "$1"
  [ -n "${!1}" ] || fail "$1 is not set. Put a password into .env (see env.example), for example from: openssl rand -hex 24"
}
