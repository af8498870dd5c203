/** Tables that the refresher replaces, and empties before it makes them anew. */
export const FIGURE_TABLES = [
  ...['dirty_days', 'daily_counts', 'daily_scopes', 'scope_stats', 'scope_kinds'],
  ...['scope_authors', 'daily_kinds', 'daily_replication', 'replication_totals'],
  ...['day_sums', 'recent_events', 'current_events', 'follow_edges'],
  ...['relay_list_edges', 'relay_list_totals', 'zaps', 'daily_zaps'],
  ...['dirty_periods', 'period_users', 'cohorts', 'daily_samples'],
  ...['cover_ranks', 'daily_references', 'reference_totals'],
];
