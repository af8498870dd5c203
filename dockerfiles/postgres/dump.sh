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

# end_claims NUMBER: SQL for a restored archive. A dump has claims of its time and sets the sequence of their fencing tokens
# back: a process that works all the same would hold one of these claims, or a token that is given away again. So they end,
# and tokens go on above NUMBER, those of the dump and the end of this second in microseconds: above every one that was given before.
end_claims() {
  cat <<SQL
do \$\$
begin
  if to_regclass('public.claim_token_sequence') is not null then
    delete from public.claims;
    perform setval('public.claim_token_sequence',
                   greatest($1, last_value, (public.unix_now() + 1) * 1000000))
       from public.claim_token_sequence;
  end if;
end \$\$;
SQL
}
