import type { JwtSigningKey } from './issue-jwt-svid.ts'
import { jwsNameOfKeyType } from './jws-algorithm.ts'

/** Of a statement that is no JWT-SVID: every validator of those refuses it (JWT-05). */
export type StatementType = `${string}+jwt`

/**
 * Signs something else than a JWT-SVID with a trust domain's JWT key.
 * @param payload JSON; should have neither `sub` nor `aud`
 * @returns compact JWS (RFC 7515 §7.1)
 */
export async function signJws (payload: string, typ: StatementType, { keyId, signer }: JwtSigningKey): Promise<string> {
  const header = JSON.stringify({ alg: jwsNameOfKeyType[signer.type], kid: keyId, typ })
  const signingInput = [header, payload].map(part => Buffer.from(part).toString('base64url')).join('.')
  const signature = await signer.sign(Buffer.from(signingInput, 'latin1'), 'ieee-p1363')
  return `${signingInput}.${Buffer.from(signature).toString('base64url')}`
}
