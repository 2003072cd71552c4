import type { Bundle } from '../../src/spiffe/bundle.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import {
  altNames, caExtensions, forge, leafExtensions, nameOf, noon, type Extensions, type Forged, type ForgeOptions
} from '../x509/forge-certificate.ts'

const domain = parseTrustDomain('example.org')
export const root = forge({ subject: 'root', extensions: caExtensions('spiffe://example.org') })

export function verify (chain: readonly Forged[]) { return verifyX509Svid(chain.map(({ der }) => der), options()) }

export function options (anchor: Forged = root) {
  const bundle = bundleOf(anchor)
  return { bundleOf: (name: Bundle['trustDomain']) => name === domain ? bundle : undefined, at: noon }
}

export function bundleOf ({ der }: Forged, { tainted = false } = {}): Bundle {
  return { trustDomain: domain, x509Authorities: [{ certificate: der, tainted }], jwtAuthorities: [] }
}

export function leafOf (issuer: Forged, id = 'spiffe://example.org/web'): Forged { return forge({ issuer, extensions: leafExtensions(id) }) }

export function leafWith (changes: Extensions): Partial<ForgeOptions> {
  return { extensions: { ...leafExtensions('spiffe://example.org/web'), ...changes } }
}

export function caWith (changes: Extensions): Partial<ForgeOptions> { return { extensions: { ...caExtensions(), ...changes } } }

export function uris (...values: readonly string[]): Uint8Array { return altNames(values.map(nameOf.uri)) }

export function untrusted (requirement: string) { return { code: 'x509_chain_untrusted', requirement } }
