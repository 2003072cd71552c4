import { createHash } from 'node:crypto'
import type { Bundle } from '../../../spiffe/bundle.ts'
import { codeOf, SpiffeError } from '../../../spiffe/errors.ts'
import { pathOf, trustDomainOf } from '../../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../../spiffe/trust-domain.ts'
import { type Certificate, parseCertificate } from '../../../x509/certificate.ts'
import { findPath } from '../../../x509/certification-path.ts'
import { commonNameOf } from '../../../x509/common-name.ts'
import { checkLeaf } from '../../../x509/leaf-profile.ts'
import { parsePublicKey } from '../../../x509/public-key.ts'
import type { Template } from '../../../golang/template/parse-template.ts'
import type { NodeExchange, NodeVerifier, VerifiedName } from '../node-verifier.ts'
import { renderPopAgentPath } from './pop-agent-path.ts'
import { encodeChallenge, parseAnswer, parsePayload } from './pop-payload.ts'
import { challengeFor, isProven } from './proof-of-possession.ts'
import { isOneOfIts } from './same-address.ts'

export interface PopVerifierConfig {
  readonly trustDomain: TrustDomain
  /** Who may have signed machines' certificates, at this moment. */
  readonly trust: () => Promise<Bundle>
  /** In whose certificates are X509-SVIDs of the trust domain, their path from here on; `undefined`: any certificates. */
  readonly svidPrefix: string | undefined
  /** What names agents; `undefined`: the fingerprint, or the rest of the SVID's path. */
  readonly agentPath: Template | undefined
  /** Beside the leaf. */
  readonly mostIntermediates: number
  readonly mostRsaBits: number
  /** Whether the certificate must name the address that the agent calls from. */
  readonly checksAddress: boolean
  readonly now: () => Date
}

/**
 * SPIRE's `x509pop`, the server's half: the agent shows a certificate that the machine has from somewhere else, and signs what it is asked
 * to with that certificate's key.
 */
export function createPopVerifier (config: PopVerifierConfig): NodeVerifier {
  return {
    name: 'x509pop',
    async verify (payload, exchange) {
      const [leaf, ...others] = readCertificates(parsePayload(payload), config)
      const path = trusted(leaf, others, await config.trust(), config.now())
      if (config.checksAddress) checkAddress(leaf, exchange)
      // Without the extension anything may be done with the key; SPIRE wants it said.
      if (leaf.keyUsage?.has('digitalSignature') !== true) throw refused('certificate not intended for digital signature use')
      const name = nameOf(leaf, config)
      await challenge(leaf, exchange, config)
      return { ...name, selectors: selectorsOf(leaf, path.slice(1), config.trustDomain), canReattest: true }
    }
  }
}

function readCertificates (
  chain: readonly Uint8Array[], { mostIntermediates, mostRsaBits }: PopVerifierConfig
): [Certificate, ...Certificate[]] {
  if (chain.length > mostIntermediates + 1) {
    throw malformed(`more intermediate certificates than max_intermediates admits, ${mostIntermediates}`)
  }
  const [leaf, ...others] = chain.map((der, index) => {
    try {
      return parseCertificate(der)
    } catch (error) {
      throw malformed(`certificate ${index + 1}: ${(error as Error).message}`)
    }
  })
  for (const certificate of others) checkRsaBits(certificate, mostRsaBits)
  return [leaf as Certificate, ...others]
}

/** What its signatures would cost to check. */
function checkRsaBits ({ publicKey }: Certificate, most: number): void {
  try {
    const { kind, bits } = parsePublicKey(publicKey)
    if (kind === 'rsa' && bits > most) throw refused(`an intermediate's RSA key has ${bits} bits, of which max_rsa_key_size admits ${most}`)
  } catch (error) {
    // A key that is accepted nowhere verifies nothing.
    if (codeOf(error) !== 'key_unsupported') throw error
  }
}

function trusted (leaf: Certificate, others: readonly Certificate[], bundle: Bundle, at: Date): readonly Certificate[] {
  try {
    return findPath(leaf, others, bundle, at)
  } catch (error) {
    if (!(error instanceof SpiffeError)) throw error
    throw new SpiffeError('attestation_refused', `x509pop: certificate verification failed: ${error.message}`, { cause: error })
  }
}

function checkAddress ({ subjectAltNames }: Certificate, { address }: NodeExchange): void {
  if (address !== undefined && isOneOfIts(subjectAltNames.ipAddresses, address)) return
  throw refused(`client IP ${address ?? 'of this machine'} does not match any certificate IP SAN`)
}

async function challenge ({ publicKey }: Certificate, exchange: NodeExchange, { mostRsaBits }: PopVerifierConfig): Promise<void> {
  const asked = challengeFor(publicKey, mostRsaBits)
  const answer = parseAnswer(await exchange.challenge(encodeChallenge(asked)))
  if (isProven(publicKey, asked, answer)) return
  throw refused('challenge response verification failed: it was not signed by the certificate\'s key')
}

function nameOf (leaf: Certificate, config: PopVerifierConfig): VerifiedName {
  const { svidPrefix, trustDomain, agentPath } = config
  const fingerprint = fingerprintOf(leaf)
  const svidPathTrimmed = svidPrefix === undefined ? '' : trimmedPathOf(leaf, svidPrefix, trustDomain)
  if (agentPath === undefined) return { idPath: svidPrefix === undefined ? fingerprint : svidPathTrimmed }
  return { agentPath: renderPopAgentPath(agentPath, leaf, {
    fingerprint, trustDomain, svidPathTrimmed, serialNumberHex: serialNumberOf(leaf), uriSans: sansOf(leaf, trustDomain)
  }) }
}

function trimmedPathOf (leaf: Certificate, svidPrefix: string, trustDomain: TrustDomain): string {
  let id
  try {
    id = checkLeaf(leaf)
  } catch (error) {
    throw new SpiffeError('attestation_refused', `x509pop: the certificate is no X509-SVID: ${(error as Error).message}`, { cause: error })
  }
  const path = pathOf(id)
  if (trustDomainOf(id) !== trustDomain || !path.startsWith(svidPrefix)) throw refused(`${id} is not below ${svidPrefix} of ${trustDomain}`)
  return path.slice(svidPrefix.length)
}

function selectorsOf (leaf: Certificate, issuers: readonly Certificate[], trustDomain: TrustDomain): string[] {
  const name = commonNameOf(leaf.subjectDer)
  return [
    ...name === undefined || name === '' ? [] : [`subject:cn:${name}`],
    ...new Set(issuers.map(issuer => `ca:fingerprint:${fingerprintOf(issuer)}`)),
    `serialnumber:${serialNumberOf(leaf)}`,
    ...[...sansOf(leaf, trustDomain)].map(([key, value]) => `san:${key}:${value}`)
  ]
}

/** `x509pop://<trust domain>/<key>/<value>`: what else whoever signed the certificate says of the machine. */
function sansOf ({ uriSans }: Certificate, trustDomain: TrustDomain): Map<string, string> {
  const prefix = `x509pop://${trustDomain}/`
  return new Map(uriSans.filter(uri => uri.startsWith(prefix)).flatMap(uri => {
    const [, key, value] = /^\/*([^/?#]+)\/([^?#]+?)\/*$/.exec(uri.slice(prefix.length)) ?? []
    return key === undefined || value === undefined ? [] : [[key, value] as const]
  }))
}

/** Of whole octets. */
function serialNumberOf ({ serialNumber }: Certificate): string {
  return serialNumber.length % 2 === 1 ? `0${serialNumber}` : serialNumber
}

/** SHA-1, as SPIRE has it in IDs and selectors; what counts is who signed, and that the key is there. */
function fingerprintOf ({ raw }: Certificate): string { return createHash('sha1').update(raw).digest('hex') }

function refused (why: string): SpiffeError { return new SpiffeError('attestation_refused', `x509pop: ${why}`) }
function malformed (what: string): SpiffeError { return new SpiffeError('attestation_malformed', `x509pop: ${what}`) }
