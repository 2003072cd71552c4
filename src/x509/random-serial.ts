import { randomFillSync } from 'node:crypto'

const octets = 16
/** A call of the generator costs as much for a few octets as for hundreds of numbers. */
const drawn = new Uint8Array(256 * octets)
let used = drawn.length

/** A serial number of 128 random bits that no certificate had before. @returns a copy of its own */
export function randomSerial (): Buffer {
  if (used === drawn.length) {
    randomFillSync(drawn)
    used = 0
  }
  const serial = Buffer.from(drawn.subarray(used, used += octets))
  // One chance in 2^128; a zero would be no serial number (RFC 5280 §4.1.2.2).
  if (serial.every(octet => octet === 0)) serial[octets - 1] = 1
  return serial
}
