-- Listed events that get no answer: their seconds are holes, and those that break off every answer are withheld.
create or replace function is_hole_reason(p_word text) returns boolean
language sql immutable parallel safe
return p_word in (
    'dense', 'overflow', 'oversized', 'quarantine_full', 'contradicted', 'unreadable', 'unanswered', 'withheld'
);
comment on function is_hole_reason(text) is 'The closed set of holes.reason, explained there. dense: the relay showed as many events as a page may hold; overflow: it sent more than is taken at once; oversized: it holds an event larger than is taken; quarantine_full: it holds events for which its quarantine has no room; contradicted: its answers contradict each other; unreadable: something in it ends every connection; unanswered: the relay lists events there by NIP-77 and gives no answer when it is asked for them; withheld: it lists more events that it does not serve than are remembered.';
comment on column holes.reason is 'Why it is not proven. dense: as many events as a page may hold; overflow: more than is taken at once; oversized: an event larger than is taken; quarantine_full: it holds events that have no room in the quarantine of this relay; contradicted: answers that contradict each other; unreadable: something in it ends every connection; unanswered: the relay lists events there by NIP-77 and gives no answer when it is asked for them, which is done at each visit; withheld: it lists more events that it does not serve than are remembered. A closed set: is_hole_reason().';

alter table withheld drop constraint withheld_reason_check;
alter table withheld add constraint withheld_reason_check check (reason in ('not_served', 'auth_required', 'restricted', 'refused', 'unreadable', 'oversized'));
comment on column withheld.reason is 'not_served: asked for by its id, the relay sends EOSE without it; auth_required, restricted, refused: CLOSED, by what it says; unreadable: every answer with it breaks off, while the relay serves others; oversized: the same, for it is larger than is taken.';
