# Sourced by psql and restore.sh: what they know of a dump in SQL, as pg_dump writes it.

# is_dump TEXT: whether its first two lines are those of a dump.
is_dump() { [[ $1 == $'--\n-- PostgreSQL database dump\n'* ]]; }

# whole_dump: copies a dump from standard input, and an error after it when its last lines are missing. "\." ends the
# rows of a table, where it was cut off among them.
whole_dump() {
  awk '
    { print }
    $0 == "-- PostgreSQL database dump complete" { end = NR }
    END {
      if (end == 0 || NR - end > 6) {
        print "\\."
        print "do $$ begin raise exception $x$the dump is cut off: its end is missing$x$; end $$;"
      }
    }'
}
