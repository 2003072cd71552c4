import { randomBytes } from 'node:crypto'
import type { CredentialComposer, JwtSvidClaimSet, X509CaAttributes, X509SvidAttributes } from '../plugins/credential-composer.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { isReservedId, serverIdOf } from '../spiffe/member-id.ts'
import { trustDomainOf, type SpiffeId } from '../spiffe/spiffe-id.ts'
import { encodeCaSubject, type CaSubject } from '../x509/ca-certificate.ts'
import { parseCertificate } from '../x509/certificate.ts'
import { DerError } from '../x509/der-reader.ts'
import { encodeDistinguishedName, readDistinguishedName } from '../x509/distinguished-name.ts'
import { checkOid, encodeExtraExtensions, policiesExtension } from '../x509/extra-extensions.ts'
import { defaultLeafSubject } from '../x509/leaf-issuer.ts'
import { checkLeaf } from '../x509/leaf-profile.ts'

/** What composers are told of an X509-SVID before it is signed. */
export interface SvidDraft {
  readonly id: SpiffeId
  readonly publicKey: Uint8Array
  readonly dnsNames: readonly string[]
  /** A Name in DER; `undefined`: the usual one. */
  readonly subject?: Uint8Array | undefined
}

export interface ComposedSvid {
  readonly subject: Uint8Array
  readonly dnsNames: readonly string[]
  /** Extensions in DER, one after the other. */
  readonly extensions: Uint8Array
}

export interface ComposedCa {
  readonly subject: Uint8Array
  /** With those of policies. */
  readonly extensions: Uint8Array
  /** Without them: a request for a certificate asks for none, as SPIRE's does not. */
  readonly requestExtensions: Uint8Array
}

/** What the operator's composers make of what is to be signed, one after the other, checked at the end. */
export class Composition {
  readonly #composers: readonly CredentialComposer[]

  /** @param composers at least one */
  constructor (composers: readonly CredentialComposer[]) { this.#composers = composers }

  /** @throws {SpiffeError} `composition_invalid`; what a composer refused with, the composer named */
  async ca (subject: CaSubject): Promise<ComposedCa> {
    const draft: X509CaAttributes = {
      subject: readDistinguishedName(encodeCaSubject(subject, randomBytes(16))), policies: [], extensions: []
    }
    const { subject: name, policies, extensions } = await this.#fold(draft, (composer, now) => composer.composeServerX509Ca?.(now))
    return checked('a CA', () => ({
      subject: encodeName(name),
      extensions: encodeExtraExtensions([...policies.length > 0 ? [policiesExtension(policies)] : [], ...extensions]),
      requestExtensions: encodeExtraExtensions(extensions)
    }))
  }

  /** @throws {SpiffeError} `composition_invalid`; what a composer refused with, the composer named */
  async x509Svid ({ id, publicKey, dnsNames, subject }: SvidDraft): Promise<ComposedSvid> {
    const draft: X509SvidAttributes = {
      subject: readDistinguishedName(subject ?? defaultLeafSubject(dnsNames)), dnsNames, extensions: []
    }
    const isServer = id === serverIdOf(trustDomainOf(id))
    const isAgent = !isServer && isReservedId(id)
    const composed = await this.#fold(draft, (composer, now) => {
      if (isServer) return composer.composeServerX509Svid?.(now)
      return isAgent ? composer.composeAgentX509Svid?.(now, { id, publicKey }) : composer.composeWorkloadX509Svid?.(now, { id, publicKey })
    })
    return checked(id, () => ({
      subject: encodeName(composed.subject), dnsNames: composed.dnsNames, extensions: encodeExtraExtensions(composed.extensions)
    }))
  }

  /** @throws {SpiffeError} `composition_invalid`; what a composer refused with, the composer named */
  async jwtSvid (id: SpiffeId, claims: JwtSvidClaimSet): Promise<JwtSvidClaimSet> {
    return await this.#fold(claims, (composer, now) => composer.composeWorkloadJwtSvid?.(now, id))
  }

  async #fold<T> (draft: T, compose: (composer: CredentialComposer, now: T) => Promise<T> | undefined): Promise<T> {
    let now = draft
    for (const composer of this.#composers) {
      try {
        now = await compose(composer, now) ?? now
      } catch (error) {
        if (!(error instanceof SpiffeError)) throw error
        throw new SpiffeError(error.code, `CredentialComposer "${composer.name}": ${error.message}`, { cause: error })
      }
    }
    return now
  }
}

/** Whether composers left of an X509-SVID what one must be. @throws {SpiffeError} `composition_invalid` */
export function checkComposedLeaf (leaf: Uint8Array, id: SpiffeId): void {
  const is = checked(id, () => checkLeaf(parseCertificate(leaf)))
  if (is !== id) throw invalid(id, `an X509-SVID of ${is}`)
}

/**
 * Whether composers left of a JWT-SVID what one must be, as SPIRE checks it, and did not make it live longer: how long a revocation stands,
 * and a key stays published, is counted from what the server said.
 * @returns when it begins and ends, in whole seconds
 * @throws {SpiffeError} `composition_invalid`
 */
export function checkComposedClaims (
  claims: JwtSvidClaimSet, { id, now, latest }: { readonly id: SpiffeId, readonly now: Date, readonly latest: Date }
): { readonly iat: number | undefined, readonly exp: number } {
  const { sub, exp, nbf, iat, aud } = claims
  const seconds = now.getTime() / 1000
  if (sub !== id) throw invalid(id, `the claim sub ${JSON.stringify(sub) ?? 'nowhere'}`)
  if (typeof exp !== 'number' || !(exp > seconds)) throw invalid(id, 'no claim exp in the future')
  if (exp > latest.getTime() / 1000) throw invalid(id, `the claim exp ${exp}, later than it was`)
  if (nbf !== undefined && !(typeof nbf === 'number' && nbf <= seconds)) throw invalid(id, 'a claim nbf that is not past')
  if (iat !== undefined && typeof iat !== 'number') throw invalid(id, 'a claim iat that is no number')
  const audience: readonly unknown[] = Array.isArray(aud) ? aud : [aud]
  if (audience.length === 0 || !audience.every(value => typeof value === 'string' && value !== '')) throw invalid(id, 'no claim aud')
  return { iat: iat === undefined ? undefined : Math.floor(iat), exp: Math.floor(exp) }
}

function encodeName (name: X509SvidAttributes['subject']): Uint8Array {
  for (const { oid } of name.extraNames) checkOid(oid)
  return encodeDistinguishedName(name)
}

function checked<T> (whose: string, check: () => T): T {
  try {
    return check()
  } catch (error) {
    if (!(error instanceof SpiffeError) && !(error instanceof DerError)) throw error
    throw invalid(whose, error.message, error)
  }
}

function invalid (whose: string, what: string, cause?: Error): SpiffeError {
  return new SpiffeError('composition_invalid', `credential composers made of ${whose}: ${what}`, { cause })
}
