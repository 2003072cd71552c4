import { DerReader } from './der-reader.ts'
import { derTag } from './der-tag.ts'

/**
 * The two numbers of an ECDSA signature side by side, as JWS wants them (RFC 7518 §3.4).
 * @param der Ecdsa-Sig-Value, as X.509 has it
 * @param octets of one number, by the curve
 */
export function ieeeP1363Of (der: Uint8Array, octets: number): Uint8Array {
  const outer = new DerReader(der)
  const numbers = outer.enter(derTag.sequence)
  outer.finish()
  const signature = new Uint8Array(2 * octets)
  for (const end of [octets, 2 * octets]) {
    const number = numbers.readInteger()
    const digits = number[0] === 0 ? number.subarray(1) : number
    signature.set(digits, end - digits.length)
  }
  numbers.finish()
  return signature
}
