const DIGITS = '0123456789bcdefghjkmnpqrstuvwxyz';
const BITS_A_DIGIT = 5;

/**
 * Geohash of a place for tag `g` of NIP-66: the ranges of longitude and latitude are bisected in turns, each bisection is
 * a bit, five bits are a digit.
 *
 * @param latitude degrees from -90 to 90
 * @param longitude degrees from -180 to 180
 */
export function geohash(latitude: number, longitude: number, digits = 9): string {
  let turn = { low: -180, high: 180, value: longitude };
  let other = { low: -90, high: 90, value: latitude };
  let hash = '';
  let digit = 0;
  for (let bits = 1; hash.length < digits; bits += 1) {
    const middle = (turn.low + turn.high) / 2;
    const isUpper = turn.value >= middle;
    if (isUpper) turn.low = middle;
    else turn.high = middle;
    digit = digit * 2 + (isUpper ? 1 : 0);
    if (bits % BITS_A_DIGIT === 0) {
      hash += DIGITS[digit] ?? '';
      digit = 0;
    }
    [turn, other] = [other, turn];
  }
  return hash;
}
