-- Two more reasons of holes: a place that breaks off every answer, and one where a relay contradicts itself.

comment on column holes.reason is 'dense: as many events as a page may hold; overflow: more than we take at once; oversized: an event larger than we take; unreadable: every request for it breaks off; contradicted: the relay has shown an event there and does not show it any more; quarantine_full: it holds events that have no room in the quarantine of this relay.';
