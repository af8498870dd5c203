/** The time as NIP-01 and the archive have it: whole Unix seconds. What is measured uses `performance.now()` milliseconds. */
export function unixNow(): number {
  return Math.floor(Date.now() / 1000);
}
