# pgAdmin's site settings. Mounted ready-made, so that the image has nothing to write outside its
# volume and can run on a read-only file system.
LOG_FILE = '/dev/null'
HELP_PATH = '../../docs'
CA_FILE = '/etc/ssl/certs/ca-certificates.crt'
DEFAULT_BINARY_PATHS = {'pg': '/usr/local/pgsql-17', 'pg-17': '/usr/local/pgsql-17'}
UPGRADE_CHECK_ENABLED = False
